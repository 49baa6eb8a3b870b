"""The residual in the dual norm: the energy error of a prediction, without its solution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from spon.errors import SponError

__all__ = ["DualNorm", "Inverse", "ResidualMap"]

_NEGATIVE = 1e-10  # of |r| |Br|: below this a negative rᵀBr is no round-off


class ResidualMap(Protocol):
    """A residual r(u; m) that torch can differentiate, such as `spon.Residual`."""

    def __call__(self, u: Tensor, m: Tensor, /) -> Tensor:
        """Return dual vectors (batch, DoFs) of u (batch, DoFs) and inputs m (batch, DoFs of all inputs)."""


class Inverse(Protocol):
    """B ≈ the inverse of an operator on admissible functions, such as `spon.Preconditioner`."""

    def __call__(self, r: Tensor, m: Tensor, u: Tensor, /) -> Tensor:
        """Return B r, (batch, DoFs), for the operators of the samples with inputs m at u."""


class DualNorm:
    """η(u; m)² = rᵀ B r with r = F(u; m, ·), for every sample.

    With the exact inverse B of the sample's own operator, η is the energy error of u for a linear
    problem, to round-off, and with that of the Riesz map of V it is ‖r‖_V'. One multigrid cycle comes close
    (FE estimates in the natural dual norm: e.g. Verfürth 2013, A Posteriori Error Estimation Techniques,
    section 1.4). r sees admissible test functions alone: u has to have the right boundary values.

    Args:
        residual: differentiable, (u, m) ↦ (batch, DoFs).
        preconditioner: B, symmetric positive definite, (r, m, u) ↦ (batch, DoFs).
        norm: (batch, DoFs) ↦ (batch,), in which errors and fields are measured; default: the energy norm of
            the linearised operator.
    """

    def __init__(
        self,
        residual: ResidualMap,
        preconditioner: Inverse,
        norm: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.residual, self.preconditioner, self.norm = residual, preconditioner, norm

    def squared(self, u: Tensor, m: Tensor) -> Tensor:
        """Return η², (batch,), with the gradient of fixed B: 2 Jᵀ B r in u, likewise in m.

        That is the whole gradient for a B that depends on neither, such as the inverse of a Riesz map; of one
        that depends on u or m, such as a cycle of the sample's own operator, the derivative is left out.

        Args:
            u: (batch, DoFs) float64.
            m: (batch, DoFs of all inputs) float64.

        Raises:
            SponError: rᵀ B r is negative or not finite.
        """
        r = self.residual(u, m)
        with torch.no_grad():
            z = self.preconditioner(r.detach(), m.detach(), u.detach())
            value = (r * z).sum(dim=1)
            bad = ~(value >= -_NEGATIVE * r.norm(dim=1) * z.norm(dim=1))
        if bool(bad.any()):
            k = int(bad.nonzero()[0])
            raise SponError(
                f"r·Br = {float(value[k]):.3g} for sample {k} of the batch; allowed: >= 0, from an operator "
                "that is symmetric positive definite where it is linearised"
            )
        pairing = (r * z).sum(dim=1)
        return value.clamp_min(0.0) + 2.0 * (pairing - pairing.detach())

    def __call__(self, u: Tensor, m: Tensor) -> Tensor:
        """Return η, (batch,); its gradient is zero where η is. See `squared`."""
        square = self.squared(u, m)
        positive = square > 0.0
        return torch.where(positive, square, 1.0).sqrt() * positive

    def energy(self, v: Tensor, u: Tensor, m: Tensor) -> Tensor:
        """Return `norm` of v, by default (vᵀ J v)^½ with the Jacobian J of the residual at u, (batch,).

        Args:
            v: (batch, DoFs).
            u: (batch, DoFs).
            m: (batch, DoFs of all inputs).

        Raises:
            SponError: vᵀ J v is negative.
        """
        if self.norm is not None:
            return self.norm(v)
        where = u.detach().clone().requires_grad_()
        with torch.enable_grad():
            r = self.residual(where, m.detach())
        (adjoint,) = torch.autograd.grad(r, where, v.detach())
        square = (adjoint * v).sum(dim=1).detach()
        if not bool((square >= -_NEGATIVE * adjoint.norm(dim=1) * v.norm(dim=1)).all()):
            raise SponError(f"v·Jv = {float(square.min()):.3g}; allowed: >= 0, from a definite Jacobian")
        return square.clamp_min(0.0).sqrt()
