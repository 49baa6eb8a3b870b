"""Laws of the deformation gradient, kept apart from those of small strains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from spon.errors import SponError

__all__ = ["FiniteStrainMaterial", "NeoHookean"]


class FiniteStrainMaterial(ABC):
    """A law P = dψ/dF with a potential ψ(F), batched over points, float64."""

    @abstractmethod
    def potential(self, F: Tensor) -> Tensor:
        """Return ψ, (…), of deformation gradients (…, d, d), d = 2 (plane strain) or 3."""

    def stress(self, F: Tensor) -> Tensor:
        """Return the first Piola–Kirchhoff stress, (batch, d, d)."""
        return torch.func.vmap(torch.func.grad(self.potential))(F)

    def tangent(self, F: Tensor) -> Tensor:
        """Return dP/dF, (batch, d, d, d, d)."""
        return torch.func.vmap(torch.func.hessian(self.potential))(F)


@dataclass(frozen=True)
class NeoHookean(FiniteStrainMaterial):
    """ψ = μ/2 (tr FᵀF − 3 − 2 ln J) + λ/2 (ln J)², J = det F > 0.

    Args:
        mu: shear modulus, positive.
        lam: Lamé's first parameter, in the same unit, positive.
    """

    mu: float
    lam: float

    def __post_init__(self) -> None:
        for name in ("mu", "lam"):
            if not getattr(self, name) > 0:
                raise SponError(f"NeoHookean: {name} = {getattr(self, name)}; allowed: positive numbers")

    def potential(self, F: Tensor) -> Tensor:
        """Return ψ, (…), of F (…, d, d)."""
        log = _determinant(F).log()
        out_of_plane = 3 - F.shape[-1]
        square = (F**2).sum((-1, -2)) + out_of_plane
        return 0.5 * self.mu * (square - 3 - 2 * log) + 0.5 * self.lam * log**2


def _determinant(F: Tensor) -> Tensor:
    """Return det F; the second derivative of torch's is not defined at equal singular values."""
    if F.shape[-1] == 2:
        return F[..., 0, 0] * F[..., 1, 1] - F[..., 0, 1] * F[..., 1, 0]
    return (F[..., 0] * torch.linalg.cross(F[..., 1], F[..., 2])).sum(-1)
