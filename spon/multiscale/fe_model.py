"""The finite-element solver of a cell as a microscale, and batches of cases over MPI ranks."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spon.errors import SponError, agree
from spon.multiscale.micromodel import Response
from spon.multiscale.rve import RVE
from spon.multiscale.rve_solver import LOOSE, PointAnswer, RVENotConverged, RVESolution, join
from spon.multiscale.sharing import Sharing
from spon.multiscale.voigt import require_strain

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["FEModel", "solve_cases"]


@dataclass(frozen=True)
class _Known:
    """The last answer at a point, in single precision: the next solve starts from it.

    Args:
        strain: (n,).
        free: (free,) fluctuation.
        sensitivity: (free, n) its derivative; None: there was no memory left.
    """

    strain: Tensor
    free: npt.NDArray[np.float32]
    sensitivity: npt.NDArray[np.float32] | None


class FEModel:
    """A cell that is solved by finite elements at every point.

    A point that is known starts from ũ(E₀) + dũ/dE (E − E₀), the last fluctuation and its sensitivity, which
    the tangent has anyway (that of the laws at zero strain, where it was not kept). Newton's method stops
    early: see `RVESolver.answer`. A point without equilibrium is marked as failed, its stress and tangent
    are NaN.

    Args:
        rve: the cell.
        tolerance: of the cell's equilibrium, relative; the stress is by about its square from the exact one.
        memory: bytes to keep starts in, on each rank, ≥ 0. Where they are used up, points keep the
            fluctuation alone (4 bytes a DoF; with sensitivities n + 1 times as much), then nothing.

    Attributes:
        solved: cells that were solved on this rank.
        iterations: steps of Newton's method that they took.

    Raises:
        SponError: numbers out of range.
    """

    uniform = True

    def __init__(self, rve: RVE, tolerance: float = LOOSE, memory: float = 2**30) -> None:
        if not 0 < tolerance < 1:
            raise SponError(f"tolerance = {tolerance} of a cell's equilibrium; allowed: between 0 and 1")
        if not memory >= 0:
            raise SponError(f"memory = {memory} bytes; allowed: >= 0")
        self.rve, self.strain_size = rve, rve.strain_size
        self.tolerance = tolerance
        self.solved = self.iterations = 0
        self._left = float(memory)
        self._last: dict[int, _Known] = {}
        self._sharing = Sharing()

    def respond(self, strain: Tensor, where: Tensor | None = None) -> Response:
        """Return stress and tangent; see `MicroModel`.

        Raises:
            SponError: a strain of another length, or another number of points than of strains.
        """
        require_strain(strain, self.strain_size)
        if where is not None and where.shape != strain.shape[:1]:
            raise SponError(f"{tuple(where.shape)} points for {len(strain)} strains; allowed: one for each")
        n = self.strain_size
        stress, tangent = (
            strain.new_full((len(strain), n), torch.nan),
            strain.new_full((len(strain), n, n), torch.nan),
        )
        failed = torch.ones(len(strain), dtype=torch.bool)
        places = [None] * len(strain) if where is None else where.tolist()
        for sample, place in enumerate(places):
            try:
                found = self._solve(strain[sample], None if place is None else self._last.get(place))
            except RVENotConverged:
                continue
            stress[sample], tangent[sample] = found.stress, found.tangent
            failed[sample] = False
            self.solved, self.iterations = self.solved + 1, self.iterations + found.iterations
            if place is not None:
                self._keep(place, strain[sample], found)
        return Response(stress, tangent, None, failed)

    def respond_together(self, strain: Tensor, where: Tensor, comm: Comm) -> Response:
        """Return the same as `respond`, with the points of all ranks shared out evenly. Collective.

        A point goes to the rank that solved it last, unless that has more than its share.

        Raises:
            SponError: on all ranks, as `respond` on any.
        """
        return self._sharing.respond(self, strain, where, comm)

    @property
    def kept(self) -> int:
        """Bytes of the starts on this rank."""
        return sum(_size(known) for known in self._last.values())

    def _solve(self, strain: Tensor, known: _Known | None) -> PointAnswer:
        """Solve from what is known; where that fails, from the fluctuation of the laws at zero strain."""
        if known is not None:
            sensitivity = self.rve.solver.elastic
            if known.sensitivity is not None:
                sensitivity = known.sensitivity.astype(np.float64)
            start = known.free + sensitivity @ (strain - known.strain).numpy()
            with contextlib.suppress(RVENotConverged):
                return self.rve.solver.answer(strain, start, sensitivity, self.tolerance)
        return self.rve.solver.answer(strain, tolerance=self.tolerance)

    def _keep(self, place: int, strain: Tensor, found: PointAnswer) -> None:
        old = self._last.pop(place, None)
        self._left += _size(old)
        free, sensitivity = found.free.astype(np.float32), found.sensitivity.astype(np.float32)
        for new in (_Known(strain.clone(), free, sensitivity), _Known(strain.clone(), free, None)):
            if _size(new) <= self._left:
                self._last[place] = new
                self._left -= _size(new)
                return


def _size(known: _Known | None) -> int:
    if known is None:
        return 0
    return known.free.nbytes + (0 if known.sensitivity is None else known.sensitivity.nbytes)


def solve_cases(rve: RVE, strains: Tensor, comm: Comm) -> RVESolution:
    """Solve load cases, shared out over ranks. Collective.

    Args:
        rve: the cell, the same on every rank.
        strains: (batch, n) macroscopic strains, the same on every rank.
        comm: each of its ranks solves every comm.size-th case.

    Returns:
        All cases in their order, on all ranks.

    Raises:
        SponError: on all ranks: no equilibrium for a case of any rank (which, its strain and residual), or a
            strain of another length.
    """
    mine = range(comm.rank, len(strains), comm.size)
    with agree(comm):
        require_strain(strains, rve.strain_size)
        found = []
        for case in mine:
            try:
                found.append(rve.solver.solve_one(strains[case]))
            except RVENotConverged as error:
                raise RVENotConverged(f"case {case}: {error}") from error
    parts = comm.allgather([{k: v.numpy() for k, v in vars(one).items()} for one in found])
    ordered = [parts[case % comm.size][case // comm.size] for case in range(len(strains))]
    solved = [RVESolution(**{k: torch.as_tensor(v) for k, v in one.items()}) for one in ordered]
    return join(solved, rve.strain_size, rve.dofs)
