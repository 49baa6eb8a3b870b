"""Nonlinear least squares by Levenberg and Marquardt's method."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["levenberg_marquardt"]

_LARGEST, _SMALLEST = 1e10, 1e-12  # damping
_FLOOR = 1e-8  # of the scales of parameters, relative to the largest
_GAIN = 1e-8  # of the squared residual, relative, over `_PATIENCE` steps
_PATIENCE = 20


def levenberg_marquardt(
    residual: Callable[[Tensor], Tensor],
    linearised: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    iterations: int,
    allowed: Callable[[Tensor], Tensor] | None = None,
    damping: float = 1e-3,
) -> Tensor:
    """Minimise |r(z)|² from a start; the residual never rises.

    Steps solve (J Jᵀ + λ diag J Jᵀ) δ = J r, scaled as by Marquardt (1963, doi:10.1137/0111030); λ falls
    after a step that helps, and rises until one does. It ends where none does, or where steps hardly help.

    Args:
        residual: r, (rows,), of z (parameters,).
        linearised: r and J = −dr/dz, (parameters, rows).
        start: z, (parameters,).
        iterations: largest number of steps.
        allowed: takes z to the nearest one within bounds.
        damping: λ at the start.
    """
    z, history = start, []
    r, J = linearised(z)
    best = r @ r
    for _ in range(iterations):
        normal, force = J @ J.T, J @ r
        scale = normal.diagonal().clamp_min(_FLOOR * normal.diagonal().max())
        while True:
            factor, info = torch.linalg.cholesky_ex(normal + torch.diag(damping * scale))
            if info == 0:
                ahead = z + torch.cholesky_solve(force[:, None], factor)[:, 0]
                ahead = ahead if allowed is None else allowed(ahead)
                tried = residual(ahead)
                if tried @ tried < best:  # False for nan
                    break
            damping *= 4
            if damping > _LARGEST:
                return z
        z, damping = ahead, max(damping / 5, _SMALLEST)
        r, J = linearised(z)
        history.append(best)
        best = r @ r
        if len(history) > _PATIENCE and history[-_PATIENCE] - best < _GAIN * best:
            break
    return z
