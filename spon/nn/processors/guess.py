"""What a few multigrid cycles with the sample's own operator know of the solution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.processors.base import Encoded
from spon.nn.processors.level_operators import CoarseInverse
from spon.nn.sparse import SparseMap
from spon.nn.stiffness import Stiffness
from spon.physics.kernels.physics import Physics

__all__ = ["CycleGuess"]

_DEGREE = 3  # of the Chebyshev polynomial that smooths
_LOWEST = 0.15  # of the largest eigenvalue: what the polynomial damps from


class CycleGuess(nn.Module):
    """V-cycles for scalar diffusion, −div(κ ∇u) = f, from zero on the free nodes.

    Chebyshev-Jacobi smoothing before and after, Pᵀ of residuals downwards, and the Cholesky factor of
    the coarsest level. A row sum of |D⁻¹K| bounds the largest eigenvalue (Gershgorin).

    Args:
        discretisation: scalar Lagrange output with Dirichlet values.
        prolong: of each level but the coarsest.
        coarse: inverse on the coarsest level.
        cycles: how many.
        dtype: of arithmetic.

    Raises:
        SponError: an output of another kind.
    """

    load: Tensor
    shift: Tensor

    def __init__(
        self,
        discretisation: Discretisation,
        prolong: Sequence[SparseMap],
        coarse: CoarseInverse,
        cycles: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        d = discretisation
        free = ~d.constraint.fixed
        scalar = d.output.components == 1 and d.dofs == len(d.levels[0].points)
        Z = d.constraint.Z
        if not scalar or Z.nnz != Z.shape[1] or not (Z.data == 1.0).all():
            raise SponError(
                f"a guess by cycles for the output {d.output.element}; allowed: a scalar Lagrange output "
                "with Dirichlet values alone"
            )
        self.prolong = nn.ModuleList(prolong)
        self.coarse, self.cycles, self.dtype = coarse, cycles, dtype
        self.register_buffer("load", torch.full((d.dofs,), torch.nan, dtype=torch.float64))
        masks = [free, *(~level.fixed for level in d.levels[1:])]
        for k, mask in enumerate(masks):
            self.register_buffer(f"mask{k}", torch.as_tensor(mask)[:, None].to(dtype), persistent=False)
        self.register_buffer("shift", torch.as_tensor(d.constraint.shift), persistent=False)

    def use(self, physics: Physics | None) -> None:
        """Take the load of the equations.

        Raises:
            SponError: no equations, or not those of diffusion; another number of DoFs.
        """
        kernel = None if physics is None else physics.kernel
        if physics is None or kernel != "diffusion":
            raise SponError(f"a guess by cycles for the equations {kernel}; allowed: diffusion")
        if np.shape(physics.load) != tuple(self.load.shape):
            raise SponError(f"a load of shape {np.shape(physics.load)}; allowed: {tuple(self.load.shape)}")
        self.load.copy_(torch.as_tensor(physics.load))

    def forward(self, encoded: Encoded, stiffness: Sequence[Stiffness], factor: Tensor) -> Tensor:
        """Return u0 and its residual D⁻¹ r, (2, nodes, batch), both zero at fixed nodes.

        Raises:
            SponError: no load was given.
        """
        if bool(self.load[:1].isnan().any()):
            raise SponError(
                "a guess by cycles needs the load of the equations; call `use(data.physics)` first"
            )
        batch = len(encoded.raw)
        shift = self.shift[:, None].expand(-1, batch) if encoded.shift is None else encoded.shift.T
        lifted = _multiplied(stiffness[0], shift.to(self.dtype))
        rhs = self._mask(0) * (self.load[:, None].to(self.dtype) - lifted)
        u, residual = torch.zeros_like(rhs), rhs
        for _ in range(self.cycles):
            u = u + self._cycle(0, residual, stiffness, factor)
            residual = self._mask(0) * (rhs - _multiplied(stiffness[0], u))
        return torch.stack([u, residual / stiffness[0].diagonal])

    def _mask(self, k: int) -> Tensor:
        mask: Tensor = getattr(self, f"mask{k}")
        return mask

    def _cycle(self, k: int, rhs: Tensor, stiffness: Sequence[Stiffness], factor: Tensor) -> Tensor:
        if k == len(self.prolong):
            return self.coarse.solve(rhs[:, :, None], factor)[:, :, 0]
        K, mask = stiffness[k], self._mask(k)
        u = self._smoothed(k, rhs, K)
        residual = mask * (rhs - _multiplied(K, u))
        down = self._mask(k + 1) * self.prolong[k].transposed(residual)
        u = u + mask * self.prolong[k](self._cycle(k + 1, down, stiffness, factor))
        return u + self._smoothed(k, mask * (rhs - _multiplied(K, u)), K)

    def _smoothed(self, k: int, rhs: Tensor, K: Stiffness) -> Tensor:
        """Chebyshev iteration for D⁻¹K on [0.15 λ, λ] from zero (Saad, Iterative Methods, algorithm 12.1)."""
        top = K.bound
        centre, half = 0.5 * (1 + _LOWEST) * top, 0.5 * (1 - _LOWEST) * top
        ratio, mask = (1 - _LOWEST) / (1 + _LOWEST), self._mask(k)
        rho = ratio
        scaled = rhs / K.diagonal
        u = step = scaled / centre
        for _ in range(_DEGREE - 1):
            after = 1.0 / (2.0 / ratio - rho)
            left = scaled - mask * _scaled(K, u)
            step = after * rho * step + 2.0 * after / half * left
            u, rho = u + step, after
        return u


def _scaled(K: Stiffness, u: Tensor) -> Tensor:
    return (K.scaled @ u[:, :, None])[:, :, 0]


def _multiplied(K: Stiffness, u: Tensor) -> Tensor:
    return K.diagonal * _scaled(K, u)
