"""Solved load cases of a cell, to learn from and to test on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spon.errors import SponError, agree
from spon.files import replacing
from spon.multiscale.rve_solver import RVENotConverged
from spon.multiscale.voigt import require_strain
from spon.progress import progress_bar
from spon.storage import check, open_hdf5, seal

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from spon.multiscale.rve import RVE

__all__ = ["Snapshots", "take_snapshots"]

_FORMAT = "spon snapshots 2"
_BEFORE = "spon snapshots 1"  # had no sensitivities


@dataclass(frozen=True)
class Snapshots:
    """Load cases with what finite elements answered, float64.

    Args:
        strains: (cases, n) macroscopic strains.
        fluctuations: (cases, dofs) displacement fluctuations.
        stresses: (cases, points, n) at the quadrature points.
        macro_stresses: (cases, n).
        tangents: (cases, n, n).
        failed: (failures, n) strains for which no equilibrium was found; nothing else is kept of them.
        sensitivities: (cases, dofs, n) d fluctuation / d macroscopic strain; None: not known, as in files of
            format 1.
    """

    strains: Tensor
    fluctuations: Tensor
    stresses: Tensor
    macro_stresses: Tensor
    tangents: Tensor
    failed: Tensor
    sensitivities: Tensor | None = None

    def __len__(self) -> int:
        return len(self.strains)

    def __getitem__(self, cases: slice) -> Snapshots:
        """Return some of the load cases, with all failures."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "failed"}
        return Snapshots(
            **{name: None if value is None else value[cases] for name, value in known.items()},
            failed=self.failed,
        )

    def save(self, path: str | Path, rve: RVE | None = None) -> None:
        """Write an HDF5 file.

        Args:
            path: of the file.
            rve: the cell, to be read from the same file by `RVE.load`.

        Raises:
            SponError: the path cannot be written, or a law of the cell that is not one of spon's own.
        """
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            group = file.create_group("snapshots")
            group.attrs["format"] = _BEFORE if self.sensitivities is None else _FORMAT
            for field in fields(self):
                if (value := getattr(self, field.name)) is not None:
                    group[field.name] = value.numpy()
            seal(group)
            if rve is not None:
                rve.write_to(file)

    @classmethod
    def load(cls, path: str | Path) -> Snapshots:
        """Read what `save` wrote.

        Raises:
            SponError: no such file, another kind of file, or an altered one.
        """
        with open_hdf5(path) as file:
            found = file["snapshots"].attrs.get("format") if "snapshots" in file else None
            if found not in (_BEFORE, _FORMAT):
                raise SponError(
                    f"{path}: holds no snapshots that can be read ({found}); allowed: {_BEFORE}, {_FORMAT}"
                )
            group = file["snapshots"]
            check(group, "snapshots")
            names = [f.name for f in fields(cls) if found == _FORMAT or f.name != "sensitivities"]
            return cls(**{name: torch.as_tensor(group[name][()]) for name in names})


def take_snapshots(
    rve: RVE,
    strains: npt.NDArray[np.float64] | Tensor,
    comm: Comm | None = None,
    show: bool = False,
) -> Snapshots:
    """Solve load cases; those without equilibrium are recorded as failed and left out.

    Collective over `comm`, which must hold the same arguments on all ranks; each rank solves its share and
    all return everything.

    Args:
        rve: cell.
        strains: (cases, n) macroscopic strains.
        comm: ranks that share the work; None: this process does it all.
        show: a progress bar of this rank's share.

    Raises:
        SponError: strains of another length, or no load case could be solved.
    """
    macro = torch.as_tensor(strains)
    require_strain(macro, rve.strain_size)
    rank, size = (comm.rank, comm.size) if comm is not None else (0, 1)
    if comm is None:
        found = [_solve(rve, macro, show)]
    else:
        with agree(comm):
            mine = _solve(rve, macro[rank::size], show)
        found = comm.allgather(mine)
    cases: list[tuple[Tensor, ...] | None] = [None] * len(macro)
    for k, part in enumerate(found):
        cases[k::size] = part
    solved = torch.tensor([case is not None for case in cases])
    if not solved.any():
        raise SponError(f"none of the {len(macro)} load cases has an equilibrium that Newton's method finds")
    columns = zip(*(case for case in cases if case is not None), strict=True)
    fluctuations, stresses, tangents, local, slopes = (torch.stack(column) for column in columns)
    return Snapshots(macro[solved], fluctuations, local, stresses, tangents, macro[~solved], slopes)


def _solve(rve: RVE, strains: Tensor, show: bool) -> list[tuple[Tensor, ...] | None]:
    """Return what each case adds to the columns of `take_snapshots`; None where it failed."""
    out: list[tuple[Tensor, ...] | None] = []
    bar = progress_bar(len(strains), "snapshots", "case", show)
    for strain in strains[:, None]:
        bar.update()
        try:
            solution = rve.solve(strain)
        except RVENotConverged:
            out.append(None)
            continue
        local = rve.stresses(rve.strains(strain, solution.fluctuation))
        slopes = rve.sensitivities(strain, solution.fluctuation)
        found = (solution.fluctuation, solution.stress, solution.tangent, local, slopes)
        out.append(tuple(column[0] for column in found))
    bar.close()
    return out
