"""Heat conduction, flow through porous media, Poisson's equation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from spon.physics.kernels.base import Floats, Kernel

__all__ = ["Diffusion"]


class Diffusion(Kernel):
    """F(u; κ) = ∫ κ ∇u·∇v − load, for each component of u."""

    def flux(self, H: Tensor, a: Tensor) -> Tensor:
        """Return κ ∇u."""
        return H * a[:, None]

    def density(self, H: Tensor, a: Tensor) -> Tensor:
        """Return κ |∇u|² / 2, (points, batch)."""
        return 0.5 * a * (H * H).sum(dim=(0, 2))

    def tangent(self, H: Tensor | None, a: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the flux itself, which is linear."""
        return lambda dH: self.flux(dH, a)

    def diagonal_moduli(self, H: Tensor | None, a: Tensor) -> Tensor:
        """Return κ δ_de."""
        eye = torch.eye(self.gdim, dtype=a.dtype, device=a.device)
        return (eye[:, :, None, None, None] * a[:, None]).expand(-1, -1, -1, self.components, -1)

    @property
    def factor(self) -> Floats:
        """The identity."""
        return np.eye(self.gdim * self.components)

    def cell_moduli(self, u: Tensor | None, m: Tensor) -> Tensor:
        """Return the mean of κ in each cell, (cells, batch)."""
        return self.cell_mean(self.coefficient(m))
