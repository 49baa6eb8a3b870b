"""Refinement of predictions by their own equations: least energy in a small space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from spon.errors import SponError
from spon.physics.kernels.cycle import Cycle
from spon.physics.kernels.line_search import backtrack
from spon.physics.kernels.solver import MultigridSolver

__all__ = ["GalerkinRefinement", "Refinement"]


class Refinement(ABC):
    """u ↦ the field of least energy in u + a space of a few functions of each sample.

    For linear problems that is the Galerkin solution, and **the energy error never grows**. For nonlinear
    ones it is a step of Newton's method within the space, halved until the potential falls; where no such
    step is found, the field stays as it is. All is of the discrete problem; no gradients.

    Args:
        solver: of the discretisation and the equations of the predictions.
    """

    batch: ClassVar[int] = 64  # samples at a time

    def __init__(self, solver: MultigridSolver) -> None:
        self.solver = solver

    @torch.no_grad()
    def __call__(self, u: Tensor, inputs: Tensor, shift: Tensor | None = None) -> Tensor:
        """Refine predictions.

        Args:
            u: (batch, DoFs) float64, on the device of the solver.
            inputs: (batch, DoFs of all inputs) float64.
            shift: (batch, DoFs) u_g of each sample; default: that of the discretisation.

        Returns:
            (batch, DoFs) float64, with the boundary values of u_g.

        Raises:
            SponError: shapes that do not fit; an operator of a linear problem that is not positive definite.
        """
        self.solver.kernel.check(u, inputs)
        shift = self.solver.shift.expand(len(u), -1) if shift is None else shift
        self.solver.kernel.check(shift, inputs)
        parts = [part.split(self.batch) for part in (u, inputs, shift)]
        return torch.cat([self._refined(*some) for some in zip(*parts, strict=True)])

    def _refined(self, u: Tensor, m: Tensor, shift: Tensor) -> Tensor:
        solver, kernel = self.solver, self.solver.kernel
        u = shift + solver.Z(solver.free(u - shift)).T
        residual = -kernel.residual(u, m)
        step = self._step(u, m, shift, residual)
        if kernel.linear:
            return solver.centred(u + step)
        slope, work = -(residual * step).sum(dim=1), (kernel.load(m) * u).sum(dim=1)
        return backtrack(lambda at: kernel.energy(at, m), u, step, slope, work)[0]

    @abstractmethod
    def _step(self, u: Tensor, m: Tensor, shift: Tensor, residual: Tensor) -> Tensor:
        """Return the minimiser of δᵀJ(u; m)δ/2 − δᵀr in the space, (batch, DoFs), in the range of Z.

        Args:
            u: (batch, DoFs) admissible.
            m: (batch, DoFs of all inputs).
            shift: (batch, DoFs).
            residual: (batch, DoFs) r = −F(u; m).
        """

    def _jacobian_state(self, u: Tensor) -> Tensor | None:
        return None if self.solver.kernel.linear else u


class GalerkinRefinement(Refinement):
    """Least energy in u_g + span{û, B r_0, …, B r_{k−1}}, B one multigrid cycle of the sample's own operator.

    r_0 is the residual of the best multiple of û, r_j that of the best field in the span of the first j + 1
    functions: the refined field of a linear problem is the same for all multiples of û, and the functions
    are independent (r_0 ⟂ û, so that B r_0 is no multiple of û unless it is zero). Directions are made
    conjugate one after the other, as in conjugate gradients, which have û as their first here; the small
    systems are solved that way, in float64, whatever the precision of B.

    Each direction costs one cycle and one product with the operator; one more product is for û.

    Args:
        solver: of the discretisation and the equations of the predictions.
        directions: k ≥ 1.

    Raises:
        SponError: directions < 1.
    """

    def __init__(self, solver: MultigridSolver, directions: int = 1) -> None:
        super().__init__(solver)
        if directions < 1:
            raise SponError(f"directions = {directions}; allowed: >= 1")
        self.directions = directions

    def _step(self, u: Tensor, m: Tensor, shift: Tensor, residual: Tensor) -> Tensor:
        cycle = self._cycle(u, m)
        if cycle is None:  # of some sample: one after the other, so that others do not suffer
            single = [[part[k : k + 1] for part in (u, m, shift, residual)] for k in range(len(u))]
            return torch.cat([self._step(*one) for one in single])
        action = self.solver.action(self._jacobian_state(u), m)(None)
        p, r = self.solver.free(u - shift), self.solver.reduced(residual)
        step = torch.zeros_like(r)
        made: list[tuple[Tensor, Tensor, Tensor]] = []
        for k in range(self.directions + 1):
            p = cycle(r) if k else p
            Jp = action(p)
            for q, Jq, energy in made:
                share = (q * Jp).sum(dim=0) / energy
                p, Jp = p - share * q, Jp - share * Jq
            energy = (p * Jp).sum(dim=0)
            positive = energy > 0  # else û = 0, r = 0 or, of nonlinear problems, a tangent that is indefinite
            energy = torch.where(positive, energy, 1.0)
            p, Jp = p * positive, Jp * positive
            length = (p * r).sum(dim=0) / energy
            step, r = step + length * p, r - length * Jp
            made.append((p, Jp, energy))
        out: Tensor = self.solver.Z(step).T
        return out

    def _cycle(self, u: Tensor, m: Tensor) -> Cycle | None:
        """Return B at u, of one sample of a nonlinear problem that of zero if need be; None: take each alone.

        Raises:
            SponError: an operator of a linear problem that is not positive definite.
        """
        try:
            return self.solver.prepare(m, self._jacobian_state(u))
        except SponError:
            if self.solver.kernel.linear:
                raise
        return self.solver.prepare(m) if len(u) == 1 else None
