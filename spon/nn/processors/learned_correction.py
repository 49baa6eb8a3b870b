"""Corrections by the residual of the sample's own equations, with smoothers that are learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.processors.base import Encoded, Processor, real_type, require_sizes
from spon.nn.processors.learned_smoother import LearnedSmoother, LocalOperator
from spon.physics.kernels.base import Kernel
from spon.physics.kernels.cg import Action
from spon.physics.kernels.cycle import Cycle
from spon.physics.kernels.physics import Physics
from spon.physics.kernels.solver import MultigridSolver

__all__ = ["LearnedCorrection"]

_HALVINGS = 12


class LearnedCorrection(Processor):
    """u_k = u_{k−1} + Σ_{j≤k} α_j S_θj(r_{j−1}), from u_g: unrolled cycles that know the equations.

    r = −F(u; m) is the residual of the sample on the finest level, in float64, and S_θ a V-cycle on the
    levels of the discretisation with the sample's own operators, exact on the coarsest, whose smoothers
    are learned (`LearnedSmoother`). The α minimise the energy over the span of all corrections so far
    (directions made conjugate to those before; they cost nothing, since K S_θ(r) is needed for the next
    residual): **whatever was learned, no cycle makes the energy error larger**. Untrained, the smoothers are
    Chebyshev's and the whole is conjugate gradients preconditioned by a V-cycle.

    For nonlinear equations these cycles are the direction of a Newton step, with residual and tangent at the
    present u (where the tangent is not positive definite, the cycle is that at u = 0; directions of negative
    curvature are taken downhill); `newton` such steps share the smoothers, under the full load. Steps are
    halved as long as that lowers the potential, and left out where none lowers it: **whatever was learned,
    no step makes the potential larger**. All is differentiated, but for the choice of the length.

    Made for training without labels (`Training(physics_loss="potential", label_weight=0.0)`); for linear
    problems batched multigrid-PCG remains the better solver at equal cost, and for nonlinear ones untrained
    smoothers are nearly as good. Not differentiable in the inputs.

    Smoothers belong to levels counted from the finest, `roles` of them; on a mesh with more levels the last
    serves the rest, with fewer those that are too many rest. They see neither positions nor the mesh size,
    and neither units of the coefficient nor of the solution.

    Args:
        discretisation: two levels or more.
        cycles: how many, each with smoothers of its own; for nonlinear equations in each Newton step.
        newton: steps for nonlinear equations; linear ones have one.
        steps: of each smoother, before and after the coarse correction.
        width: hidden units of each step.
        roles: levels with smoothers of their own; None: all but the coarsest.
        dtype: of parameters and cycles, "float32" or "float64".
        seed: of the initial parameters.

    Raises:
        SponError: settings that are not allowed, or a single level.
    """

    acts_on = "dofs"
    whole = True

    def __init__(
        self,
        discretisation: Discretisation,
        cycles: int = 2,
        newton: int = 8,
        steps: int = 2,
        width: int = 32,
        roles: int | None = None,
        dtype: torch.dtype | str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        name, kind = real_type(dtype)
        levels = len(discretisation.levels)
        if levels < 2:
            raise SponError("corrections by cycles on 1 level; allowed: 2 levels or more")
        roles = levels - 1 if roles is None else roles
        require_sizes({"cycles": cycles, "newton": newton, "steps": steps, "width": width, "roles": roles})
        self.settings = {
            "cycles": cycles,
            "newton": newton,
            "steps": steps,
            "width": width,
            "roles": roles,
            "dtype": name,
        }
        self.discretisation, self.steps = discretisation, steps
        self.solver: MultigridSolver | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.cycles = nn.ModuleList(
                nn.ModuleList(LearnedSmoother(steps, width, kind) for _ in range(2 * roles))
                for _ in range(cycles)
            )

    def use(self, physics: Physics | None) -> None:
        """Take the equations.

        Raises:
            SponError: no equations, or such as have no multigrid cycles.
        """
        if physics is None:
            raise SponError("corrections by cycles for no equations; allowed: data with equations")
        solver = MultigridSolver(self.discretisation, physics, self.dtype)
        self.solver, self.physics = solver.to(next(self.parameters()).device), physics

    def on(self, discretisation: Discretisation) -> LearnedCorrection:
        """Return the processor on another mesh, with the same parameters; it wants the equations there."""
        other = LearnedCorrection(discretisation, **self.settings)
        other.cycles = self.cycles
        return other.train(self.training)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return û, (batch, columns of Z) float64.

        Raises:
            SponError: no equations were given; an operator that is not positive definite; boundary values
                whose extension by zero folds cells.
        """
        solver = self.solver
        if solver is None:
            raise SponError("corrections by cycles need equations; call `use(data.physics)` first")
        m = encoded.raw
        shift = solver.shift.expand(len(m), -1) if encoded.shift is None else encoded.shift
        if not solver.kernel.linear:
            return self._descended(solver, m, shift)
        r = -solver.reduced(solver.kernel.residual(shift, m))
        return self._corrected(solver.prepare(m), solver.action(None, m)(None), r).T

    def _descended(self, solver: MultigridSolver, m: Tensor, shift: Tensor) -> Tensor:
        """Return û after `newton` steps with a line search on the potential, (batch, columns of Z)."""
        kernel = solver.kernel
        undeformed = kernel.cell_moduli(torch.zeros_like(shift), m)
        free, u = torch.zeros_like(solver.free(shift)), shift
        level = kernel.energy(u, m).detach()
        if not bool(level.isfinite().all()):
            raise SponError(
                f"the boundary values of sample {int((~level.isfinite()).nonzero()[0])} of the batch fold "
                "cells next to the boundary; allowed: smaller ones, or coarser cells there"
            )
        for _ in range(self.settings["newton"]):
            r = -solver.reduced(kernel.residual(u, m))
            cycle = solver.hierarchy.prepare(kernel.cell_moduli(u, m), undeformed)
            step = self._corrected(cycle, solver.action(u, m)(None), r)
            with torch.no_grad():
                length, level = _search(kernel, u, m, solver.Z(step).T, level)
            free = free + length * step
            u = shift + solver.Z(free).T
        return free.T

    def _corrected(self, cycle: Cycle, action: Action, r: Tensor) -> Tensor:
        """Return the minimiser of ½ xᵀK x − xᵀr over the span of all corrections, (free, batch)."""
        operators = [LocalOperator(operator) for operator in cycle.operators[:-1]]
        x = torch.zeros_like(r)
        directions: list[tuple[Tensor, Tensor, Tensor]] = []
        for smoothers in self.cycles:
            p = self._correction(smoothers, cycle, operators, r)
            Kp = action(p)
            for q, Kq, energy in directions:
                beta = (q * Kp).sum(dim=0) / energy
                p, Kp = p - beta * q, Kp - beta * Kq
            energy = (p * Kp).sum(dim=0)
            energy = torch.where(energy == 0, 1.0, energy)  # of p = 0, where r = 0
            alpha = (p * r).sum(dim=0) / energy.abs()  # downhill too where K is not positive
            x, r = x + alpha * p, r - alpha * Kp
            directions.append((p, Kp, energy))
        return x

    def _correction(
        self, smoothers: nn.ModuleList, cycle: Cycle, operators: Sequence[LocalOperator], r: Tensor
    ) -> Tensor:
        """Return a V-cycle applied to r, (free, batch) float64, but for the size of moduli: α makes it up."""
        scale = r.detach().abs().amax(dim=0).clamp_min(torch.finfo(r.dtype).tiny)

        def visit(k: int, rhs: Tensor) -> Tensor:
            if k == len(operators):
                out: Tensor = torch.cholesky_solve(rhs.T[:, :, None], cycle.factor)[:, :, 0].T
                return out
            prolong, role = cycle.hierarchy.prolong[k], min(2 * k, len(smoothers) - 2)
            x, left = smoothers[role](operators[k], None, rhs)
            x = x + prolong(visit(k + 1, prolong.transposed(left)))
            return smoothers[role + 1](operators[k], x, rhs - operators[k](x), last=k == 0)[0]

        out = visit(0, (r / scale).to(self.dtype))
        return out.to(r.dtype) * scale


def _search(kernel: Kernel, u: Tensor, m: Tensor, direction: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Halve steps as long as that lowers the potential; zero where none is below `level`, (batch,) each."""
    best, found = torch.zeros_like(level), level
    for k in range(_HALVINGS):
        length = 0.5**k
        energy = kernel.energy(u + length * direction, m)
        lower = energy < found
        if k and not bool((lower | (best == 0)).any()):
            break
        best, found = torch.where(lower, length, best), torch.where(lower, energy, found)
    return best, found
