"""Linear elasticity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.physics.kernels.base import Floats, Kernel
from spon.physics.kernels.physics import Physics

__all__ = ["Elasticity", "isotropic_root"]

_STATES = {2: ("plane stress", "plane strain"), 3: ("solid",)}


class Elasticity(Kernel):
    """F(u; E) = ∫ σ:∇v − load with σ = E (λ̂ tr(ε) I + 2 μ̂ ε), ε = sym ∇u.

    μ̂ = 1 / (2 (1 + ν)); λ̂ = ν / ((1 + ν)(1 − 2ν)) in a solid and in plane strain, ν / (1 − ν²) in plane
    stress (Timoshenko & Goodier 1970, Theory of Elasticity, chapters 1 and 2). E is the coefficient times
    the constant `young`.

    Constants: `young`, `poisson`, `state` ("plane stress", "plane strain" or "solid").

    Raises:
        SponError: as `Kernel` does; a state that does not fit the dimension; ν out of range; an output
            whose components are not those of a displacement.
    """

    constants = ("young", "poisson", "state")

    def __init__(
        self, discretisation: Discretisation, physics: Physics, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__(discretisation, physics, dtype)
        given = physics.constants
        nu, state, allowed = float(given["poisson"]), given["state"], _STATES.get(self.gdim, ())
        if state not in allowed:
            raise SponError(f"state '{state}'; allowed in {self.gdim}-D: {', '.join(allowed) or 'none'}")
        if self.components != self.gdim:
            raise SponError(f"displacements of {self.components} components; allowed: {self.gdim}")
        if not -1 < nu < 0.5 and not (state == "plane stress" and nu == 0.5):
            raise SponError(f"poisson = {nu}; allowed: -1 < poisson < 0.5")
        young = float(given["young"])
        self.mu = young / (2 * (1 + nu))
        self.lame = young * nu / ((1 + nu) * ((1 - nu) if state == "plane stress" else (1 - 2 * nu)))

    def _stress(self, H: Tensor) -> Tensor:
        """Return σ for E = 1."""
        out = self.mu * (H + H.transpose(0, 2))
        trace = self.lame * torch.stack([H[d, :, d] for d in range(self.gdim)]).sum(dim=0)
        return torch.stack(
            [
                torch.stack([out[d, :, c] + trace if c == d else out[d, :, c] for c in range(self.gdim)], 1)
                for d in range(self.gdim)
            ]
        )

    def flux(self, H: Tensor, a: Tensor) -> Tensor:
        """Return σ."""
        return self._stress(H) * a[:, None]

    def density(self, H: Tensor, a: Tensor) -> Tensor:
        """Return σ:ε / 2, (points, batch)."""
        return 0.5 * (self.flux(H, a) * H).sum(dim=(0, 2))

    def tangent(self, H: Tensor | None, a: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the flux itself, which is linear."""
        return lambda dH: self.flux(dH, a)

    def diagonal_moduli(self, H: Tensor | None, a: Tensor) -> Tensor:
        """Return E (μ̂ δ_de + (λ̂ + μ̂) δ_dc δ_ec)."""
        eye = torch.eye(self.gdim, dtype=a.dtype, device=a.device)
        fixed = self.mu * eye[:, :, None] + (self.lame + self.mu) * eye[:, None, :] * eye[None, :, :]
        return fixed[:, :, None, :, None] * a[:, None]

    @property
    def factor(self) -> Floats:
        """The root of the moduli for E = 1."""
        return isotropic_root(self.gdim, self.mu, self.lame)

    def cell_moduli(self, u: Tensor | None, m: Tensor) -> Tensor:
        """Return the mean of E in each cell, (cells, batch)."""
        return self.cell_mean(self.coefficient(m))


def isotropic_root(gdim: int, mu: float, lame: float) -> Floats:
    """Return L, (rows, gdim²) without its nullspace, with H:LᵀL:H = 2 μ |ε|² + λ (tr ε)², ε = sym H."""
    eye = np.eye(gdim)
    moduli = mu * (np.einsum("de,ck->dcek", eye, eye) + np.einsum("dk,ce->dcek", eye, eye))
    moduli += lame * np.einsum("dc,ek->dcek", eye, eye)
    values, vectors = np.linalg.eigh(moduli.reshape(gdim**2, gdim**2))
    kept = values > 1e-12 * values.max()
    return np.asarray((vectors[:, kept] * np.sqrt(values[kept])).T)
