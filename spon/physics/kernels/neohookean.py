"""Large deformations of a compressible neo-Hookean solid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.physics.kernels.base import Floats, Kernel
from spon.physics.kernels.elasticity import isotropic_root
from spon.physics.kernels.physics import Physics

__all__ = ["NeoHookean"]


class NeoHookean(Kernel):
    """F(u; a) = ∫ a P(F):∇v − load with P = μ (F − F⁻ᵀ) + λ ln J F⁻ᵀ, F = I + ∇u, J = det F.

    P is the derivative of μ/2 (F:F − 3) − μ ln J + λ/2 (ln J)² (Bonet & Wood 2008, Nonlinear Continuum
    Mechanics for Finite Element Analysis, section 6.4.3); in two dimensions this is plane strain.

    Constants: `mu` and `lame`, λ.

    Raises:
        SponError: as `Kernel` does; an output whose components are not those of a displacement; μ ≤ 0.
    """

    linear = False
    constants = ("mu", "lame")

    def __init__(
        self, discretisation: Discretisation, physics: Physics, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__(discretisation, physics, dtype)
        self.mu, self.lame = float(physics.constants["mu"]), float(physics.constants["lame"])
        if self.components != self.gdim:
            raise SponError(f"displacements of {self.components} components; allowed: {self.gdim}")
        if not self.mu > 0:
            raise SponError(f"mu = {self.mu}; allowed: mu > 0")

    def flux(self, H: Tensor, a: Tensor) -> Tensor:
        """Return P; not a number where J ≤ 0."""
        F, inverse, J = self._kinematics(H)
        return a[:, None] * (self.mu * F + (self.lame * J.log() - self.mu)[:, None] * inverse)

    def density(self, H: Tensor, a: Tensor) -> Tensor:
        """Return the stored energy, (points, batch); infinite where J ≤ 0."""
        # F:F − n − 2 ln J in terms of H, so that small strains do not cancel
        second, third = _invariants(H)
        growth = sum(H[d, :, d] for d in range(self.gdim)) + second + third  # J − 1
        folded = growth <= -1
        growth = torch.where(folded, torch.zeros_like(growth), growth)
        shear = (H * H).sum(dim=(0, 2)) / 2 - second - third + _above_logarithm(growth)
        stored = self.mu * shear + self.lame / 2 * growth.log1p() ** 2
        return torch.where(folded, torch.full_like(stored, torch.inf), a * stored)

    def tangent(self, H: Tensor, a: Tensor) -> Callable[[Tensor], Tensor]:
        """Return dH ↦ a (μ dH + (μ − λ ln J) F⁻ᵀ dHᵀ F⁻ᵀ + λ (F⁻ᵀ:dH) F⁻ᵀ)."""
        _, g, J = self._kinematics(H)
        first, second, third = a * self.mu, a * (self.mu - self.lame * J.log()), a * self.lame

        def apply(dH: Tensor) -> Tensor:
            # by components, without arrays of all products
            n, rows = range(self.gdim), []
            trace = third * sum(g[d, :, c] * dH[d, :, c] for d in n for c in n)
            for d in n:
                inner = [second * sum(g[d, :, j] * dH[e, :, j] for j in n) for e in n]
                row = [first * dH[d, :, c] + trace * g[d, :, c] for c in n]
                for c in n:
                    for e in n:
                        row[c] = row[c] + inner[e] * g[e, :, c]
                rows.append(torch.stack(row, dim=1))
            return torch.stack(rows)

        return apply

    def diagonal_moduli(self, H: Tensor, a: Tensor) -> Tensor:
        """Return a (μ δ_de + (μ − λ ln J + λ) F⁻ᵀ_cd F⁻ᵀ_ce)."""
        _, g, J = self._kinematics(H)
        eye = torch.eye(self.gdim, dtype=a.dtype, device=a.device)
        factor = a * (self.mu - self.lame * J.log() + self.lame)
        outer = g[:, None] * g[None] * factor[:, None]
        return outer + self.mu * eye[:, :, None, None, None] * a[:, None]

    @property
    def factor(self) -> Floats:
        """The root of the moduli at u = 0, those of linear elasticity."""
        return isotropic_root(self.gdim, self.mu, self.lame)

    def cell_moduli(self, u: Tensor | None, m: Tensor) -> Tensor:
        """Return the mean of ∂P/∂H in each cell, (gdim², gdim², cells, batch).

        Of a μ I, (μ − λ ln J) F⁻ᵀ_dk F⁻ᵀ_ec and λ F⁻ᵀ_dc F⁻ᵀ_ek, with rows dc and columns ek.
        """
        H, a = self._state(u, m)
        _, g, J = self._kinematics(H)
        a = a.expand_as(J)
        n, pairs = self.gdim, [(d, c) for d in range(self.gdim) for c in range(self.gdim)]
        turned = {}  # means of (μ − λ ln J) F⁻ᵀ_dc F⁻ᵀ_ek and of λ F⁻ᵀ_dc F⁻ᵀ_ek
        for i, (d, c) in enumerate(pairs):
            scaled = a * g[d, :, c]
            once, twice = (self.mu - self.lame * J.log()) * scaled, self.lame * scaled
            for e, k in pairs[i:]:
                both = torch.stack([once * g[e, :, k], twice * g[e, :, k]])
                turned[d, c, e, k] = turned[e, k, d, c] = self.cell_mean(both)
        shear = self.mu * self.cell_mean(a)
        out = torch.stack([turned[d, k, e, c][0] + turned[d, c, e, k][1] for d, c in pairs for e, k in pairs])
        out = out.reshape(n * n, n * n, *shear.shape)
        out.diagonal(dim1=0, dim2=1).add_(shear[:, :, None])
        return out

    def _kinematics(self, H: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return F and F⁻ᵀ with the indices of H, (d, point, c, batch) for F_cd, and J (points, batch)."""
        eye = torch.eye(self.gdim, dtype=H.dtype, device=H.device)
        F = H + eye[:, None, :, None]
        cofactor = _cofactor(F)
        J = (F[0] * cofactor[0]).sum(dim=1)
        return F, cofactor / J[:, None], J


def _invariants(H: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the principal minors of order two, and the determinant in space (else zero)."""
    n = len(H)
    minors = [H[i, :, i] * H[j, :, j] - H[i, :, j] * H[j, :, i] for i in range(n) for j in range(i + 1, n)]
    second = torch.stack(minors).sum(dim=0)
    return second, torch.zeros_like(second) if n == 2 else (H[0] * _cofactor(H)[0]).sum(dim=1)


def _above_logarithm(x: Tensor) -> Tensor:
    """Return x − ln(1 + x) to working precision."""
    near = x.abs() < 0.01
    series = torch.zeros_like(x)
    for k in range(9, 1, -1):
        series = (1.0 / k if k % 2 == 0 else -1.0 / k) + x * series
    far = torch.where(near, torch.ones_like(x), x)
    return torch.where(near, x * x * series, far - far.log1p())


def _cofactor(F: Tensor) -> Tensor:
    """Return the cofactors of matrices with the indices (d, point, c, batch), dF det = cof:dF."""
    if len(F) == 2:
        (a, b), (c, d) = ((F[i, :, 0], F[i, :, 1]) for i in range(2))
        return torch.stack([torch.stack([d, -c], 1), torch.stack([-b, a], 1)])
    x, y, z = F
    return torch.stack([torch.linalg.cross(*pair, dim=1) for pair in ((y, z), (z, x), (x, y))])
