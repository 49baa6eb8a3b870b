"""The finite-element solver of a cell as a microscale, and batches of cases over MPI ranks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spon.errors import SponError, agree
from spon.multiscale.micromodel import Response
from spon.multiscale.rve import RVE
from spon.multiscale.rve_solver import RVENotConverged, RVESolution, join
from spon.multiscale.voigt import require_strain

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["FEModel", "solve_cases"]


class FEModel:
    """A cell that is solved by finite elements at every point.

    A point that is known starts from its last fluctuation; a point without equilibrium is marked as failed,
    its stress and tangent are NaN.

    Args:
        rve: the cell.
    """

    def __init__(self, rve: RVE) -> None:
        self.rve, self.strain_size = rve, rve.strain_size
        self._last: dict[int, Tensor] = {}

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
            stress[sample], tangent[sample] = found.stress[0], found.tangent[0]
            failed[sample] = False
            if place is not None:
                self._last[place] = found.fluctuation[0]
        return Response(stress, tangent, None, failed)

    def _solve(self, strain: Tensor, start: Tensor | None) -> RVESolution:
        """Solve from a start; where that fails, from the fluctuation of the laws at zero strain."""
        if start is not None:
            with contextlib.suppress(RVENotConverged):
                return self.rve.solver.solve_one(strain, start)
        return self.rve.solver.solve_one(strain)


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
