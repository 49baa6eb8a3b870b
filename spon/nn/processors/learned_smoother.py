"""Smoothers whose steps depend on what the operator looks like around each unknown."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spon.physics.kernels.grid import Operator

__all__ = ["FEATURES", "LearnedSmoother", "LocalOperator"]

FEATURES = 5  # of an operator around an unknown
_RESIDUALS = 3  # of residual and last step
_LOWER = 0.25  # of the spectrum that is left to the coarser level


class LocalOperator:
    """An operator A(κ) with features of each of its unknowns, none of which has a unit or a position.

    With the diagonal d(κ): log d(κ)/d(1), less its mean over the level, is log κ around the unknown;
    log d(κ²) d(1)/d(κ)² how much κ varies there; D⁻¹A of the first, with κ and with 1, how it bends;
    D⁻¹A 1 tells unknowns next to prescribed values. Where moduli are matrices C(κ), 1 are those of the
    undeformed body, C₀, and d(κ²) is that of s² C₀ with s = tr C(κ) / tr C₀.

    Args:
        operator: of a level.

    Attributes:
        features: (free, batch, `FEATURES`).
    """

    def __init__(self, operator: Operator) -> None:
        self.operator, self.bound = operator, operator.grid.bound
        grid, moduli = operator.grid, operator.moduli
        one = grid.unit.expand(*moduli.shape[:-1], 1)
        plain = grid.operator(one)
        size = -operator.inverse_diagonal.log() + plain.inverse_diagonal.log()
        size = size - size.mean(dim=0)
        if grid.full:
            numbers = torch.einsum("iicb->cb", moduli) / torch.einsum("iicb->cb", one)
            linear, square = (grid.operator(s * one) for s in (numbers, numbers.square()))
        else:
            linear, square = operator, grid.operator(moduli.square())
        varied = linear.inverse_diagonal.square() / (square.inverse_diagonal * plain.inverse_diagonal)
        unit = torch.ones_like(size)
        bent = plain.inverse_diagonal * Operator(grid, one.expand_as(moduli), plain.inverse_diagonal)(size)
        parts = (size, varied.log(), bent, self.scaled(size), self.scaled(unit))
        self.features = torch.stack(parts, dim=-1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return A x, (free, batch)."""
        return self.operator(x)

    def scaled(self, x: Tensor) -> Tensor:
        """Return D⁻¹A x, (free, batch)."""
        return self.operator.inverse_diagonal * self.operator(x)


class LearnedSmoother(nn.Module):
    """x ← x + τ_j ((1 + a_j) g + b_j p) for j = 1, 2, …, with g = D⁻¹(rhs − A x) and the last step p.

    τ_j are the steps of Chebyshev's iteration for the upper three quarters of the spectrum of D⁻¹A, and
    a_j, b_j small networks of the features of the unknown and of |g|, |p| and gp, in units of the root of
    the mean of g², x ↦ x / (1 + |x|) of each. They start from zero. S(c rhs) = c S(rhs) for every number c.

    Args:
        steps: how many.
        width: hidden units.
        dtype: of parameters.
    """

    def __init__(self, steps: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(
            nn.Linear(FEATURES + _RESIDUALS, width, dtype=dtype) for _ in range(steps)
        )
        self.read = nn.ModuleList(nn.Linear(width, 2, dtype=dtype) for _ in range(steps))
        for layer in self.read:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, operator: LocalOperator, x: Tensor | None, residual: Tensor, last: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Smooth.

        Args:
            operator: A.
            x: (free, batch); None: zero.
            residual: rhs − A x.
            last: whether the residual afterwards is not needed.

        Returns:
            x and its residual, which with `last` is that before the last step.
        """
        centre, radius = operator.bound * (1 + _LOWER) / 2, operator.bound * (1 - _LOWER) / 2
        count = len(self.hidden)
        p = torch.zeros_like(residual)
        for j, (hidden, read) in enumerate(zip(self.hidden, self.read, strict=True)):
            tau = 1.0 / (centre + radius * math.cos(math.pi * (2 * j + 1) / (2 * count)))
            g = operator.operator.inverse_diagonal * residual
            size = g.square().mean(dim=0).sqrt().clamp_min(torch.finfo(g.dtype).tiny)
            g1, p1 = g / size, p / size
            local = torch.stack([_bounded(g1.abs()), _bounded(p1.abs()), _bounded(g1 * p1)], dim=-1)
            a, b = read(nn.functional.silu(hidden(torch.cat([operator.features, local], dim=-1)))).unbind(-1)
            p = tau * ((1.0 + a) * g + b * p)
            x = p if x is None else x + p
            if not (last and j == count - 1):
                residual = residual - operator(p)
        return x, residual


def _bounded(x: Tensor) -> Tensor:
    return x / (1.0 + x.abs())
