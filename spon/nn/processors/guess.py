"""What a few multigrid cycles with the sample's own operator know of the solution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.nn.processors.base import Encoded
from spon.nn.sparse import SparseMap
from spon.physics.kernels.physics import Physics
from spon.physics.kernels.solver import MultigridSolver

__all__ = ["CycleGuess"]

_STEPS = 3  # of the smoother, before and after each coarse correction


class CycleGuess(nn.Module):
    """u0 = Z û after a few steps from zero for ZᵀJ Z û = Zᵀ(load − J u_g), J the sample's Jacobian at u = 0.

    For linear equations that is the problem itself; others are linearised about the undeformed state. A step
    is one of conjugate gradients, preconditioned by a cycle of `MultigridSolver`, with the β of Polak and
    Ribière (see `conjugate_gradients`): the energy error is smaller than that of the cycles alone, and never
    larger than that of zero. Cycles are in float32, all else in float64. Nothing is learned here, and nothing
    differentiated.

    Args:
        discretisation: levels, constraint and Lagrange output.
        physics: the equations.
        cycles: how many, ≥ 1.

    Raises:
        SponError: as `MultigridSolver` does.
    """

    def __init__(self, discretisation: Discretisation, physics: Physics | None, cycles: int) -> None:
        super().__init__()
        self.solver = MultigridSolver(discretisation, physics, steps=_STEPS)
        self.features = SparseMap(discretisation.output.features, torch.float64)
        self.cycles = cycles

    @torch.no_grad()
    def forward(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Return u0 and features.

        Returns:
            (batch, DoFs) float64 u0, in the range of Z; (nodes, batch, 2 · components) float64, the nodal
            values of u0 and of Z D⁻¹ r, with the residual r on û and the diagonal D of the operator.

        Raises:
            SponError: an operator that is not positive definite.
        """
        solver, m = self.solver, encoded.raw
        with torch.autocast(m.device.type, enabled=False):
            shift = solver.shift.expand(len(m), -1) if encoded.shift is None else encoded.shift
            state = None if solver.kernel.linear else torch.zeros_like(shift)
            jacobian, cycle = solver.kernel.linearise(state, m), solver.prepare(m, state)
            residual = before = solver.reduced(solver.kernel.load(m) - jacobian(shift))
            u = step = torch.zeros_like(residual)
            work = torch.ones_like(residual[0])
            for _ in range(self.cycles):
                z = cycle(residual)
                step = z + _ratio(((residual - before) * z).sum(dim=0), work) * step
                forces = solver.reduced(jacobian(solver.Z(step).T))
                work = (residual * z).sum(dim=0)
                length = _ratio(work, (step * forces).sum(dim=0))
                u, before, residual = u + length * step, residual, residual - length * forces
            scaled = residual * cycle.operators[0].inverse_diagonal / cycle.size
            both = solver.Z(torch.stack([u, scaled], dim=1))
            nodal = self.features(both).reshape(-1, solver.kernel.components, 2, len(m))
            return both[:, 0].T, nodal.permute(0, 3, 2, 1).flatten(2)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b; zero where b is not positive: there is no residual left."""
    return torch.where(b > 0, a / b, 0.0)
