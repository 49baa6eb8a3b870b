"""Dual norms and certificates of problem files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import ufl
from torch import Tensor

from spon.fem.assembly import assembled
from spon.physics.assembled.preconditioner import Preconditioner
from spon.physics.assembled.problem import Problem
from spon.physics.assembled.residual import Residual
from spon.physics.kernels.certificate import Certificate
from spon.physics.kernels.dual_norm import DualNorm

__all__ = ["certificate"]


def certificate(problem: Problem, method: str = "multigrid", operator: str = "jacobian") -> Certificate:
    """Return the certificate of a problem file by assembled forms. Collective.

    With ("direct", "riesz"), for a linear and definite problem that states its `stability`, certificates are
    guaranteed, up to round-off, and bound the energy norm; else they are estimates, which
    `Certificate.calibrate` sharpens: with "riesz" in the norm of `Problem.riesz`, and without calibration up
    to the constants of the operator in that norm.

    Args:
        problem: any; an indefinite one with the operator "riesz".
        method: as for `spon.Preconditioner`.
        operator: as for `spon.Preconditioner`.

    Raises:
        SponError: as `spon.Residual` and `spon.Preconditioner`.
    """
    inverse = Preconditioner(problem, method, operator)
    strict = inverse.exact and operator == "riesz" and problem.linear and problem.definite
    guaranteed = strict and type(problem).stability is not Problem.stability
    riesz = _riesz_norm(problem) if operator == "riesz" and not guaranteed else None
    norm = DualNorm(Residual(problem), inverse, riesz)

    def stability(m: Tensor) -> Tensor:
        found = [problem.stability(sample) for sample in m.cpu().numpy()]
        return torch.tensor([float("nan") if a is None else a for a in found], device=m.device).double()

    return Certificate(norm, stability if guaranteed else None)


def _riesz_norm(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Return the norm of V. Collective."""
    u, v = ufl.TrialFunction(problem.space), ufl.TestFunction(problem.space)
    matrix = assembled(problem.riesz(u, v))
    gram = problem.order.matrix(matrix)
    matrix.destroy()

    def norm(values: Tensor) -> Tensor:
        rows = values.detach().cpu().numpy()
        square = np.einsum("bi,ib->b", rows, gram @ rows.T)
        return torch.as_tensor(np.sqrt(np.maximum(square, 0.0))).to(values.device)

    return norm
