"""Approximate inverses of linearised operators and Riesz maps, for dual norms of residuals."""

from __future__ import annotations

from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from spon.errors import SponError, agree
from spon.physics.assembled.linearised import Linearised
from spon.physics.assembled.problem import Problem

__all__ = ["Preconditioner"]


class Preconditioner:
    """B r for dual vectors r: B ≈ Z (ZᵀAZ)⁻¹ Zᵀ, symmetric positive definite where A is. Collective.

    A is the sample's own operator, the Jacobian of the residual at (u, m), or the Riesz map of
    `Problem.riesz`, the same for all samples. Call `destroy`, or use it in a `with` statement, as for
    `spon.ConstrainedSolver`.

    With the operator "jacobian" of a linear problem and the method "multigrid", I − BA has its eigenvalues in
    [0, 1): rᵀBr never exceeds the square of the energy error.

    Args:
        problem: any whose operator is definite; others have to take "riesz".
        method: "direct", a factorisation; "amg", one cycle of algebraic multigrid (hypre's BoomerAMG, for
            vectors GAMG; it depends a little on the number of ranks); "multigrid", one cycle of the
            discretisation's own levels.
        operator: "jacobian" or "riesz".

    Attributes:
        exact: whether B is the inverse, up to round-off.
        operator: as given.

    Raises:
        SponError: another name; the Jacobian of an indefinite problem; levels, spaces or constraints that
            the method does not know.
    """

    def __init__(self, problem: Problem, method: str = "multigrid", operator: str = "jacobian") -> None:
        if operator == "jacobian" and not problem.definite:
            raise SponError(
                f"the Jacobian of {type(problem).__name__} is not definite and gives no norm; "
                "allowed: operator 'riesz'"
            )
        self.exact, self.operator = method == "direct", operator
        self._linearised = Linearised(problem, method, operator)
        self._problem = problem

    @torch.no_grad()
    def __call__(self, r: Tensor, m: Tensor, u: Tensor) -> Tensor:
        """Return B r. Collective.

        Args:
            r: (batch, DoFs) float64, dual vectors, the same on every rank.
            m: (batch, DoFs of all inputs).
            u: (batch, DoFs), where A is the Jacobian.

        Returns:
            (batch, DoFs) float64, admissible for the data zero.

        Raises:
            SponError: on all ranks: wrong shapes; A is singular.
        """
        order, inputs = self._problem.order, self._problem.coefficients
        with agree(self._problem.comm):
            for name, values, size in (("r", r, order.size), ("m", m, inputs.size), ("u", u, order.size)):
                if values.shape != (len(r), size):
                    raise SponError(f"{name} of shape {tuple(values.shape)}; allowed: ({len(r)}, {size})")
        rows = []
        arrays = [one.detach().cpu().double().numpy() for one in (r, m, u)]
        for dual, sample, where in zip(*arrays, strict=True):
            self._linearised.at(where, sample)
            rows.append(self._linearised.apply(dual))
        return torch.as_tensor(np.array(rows).reshape(r.shape)).to(r.device)

    def destroy(self) -> None:
        """Free the PETSc objects. Collective; it cannot be used afterwards."""
        self._linearised.destroy()

    def __enter__(self) -> Preconditioner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()
