"""The operators of one level of a multigrid processor."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.errors import SponError
from spon.level import Level
from spon.nn.sample_matrices import SymmetricPattern
from spon.nn.sparse import SparseMap
from spon.nn.stiffness import Stiffness

__all__ = ["LARGEST_DENSE", "CoarseInverse", "LevelOperators"]

LARGEST_DENSE = 1024


class LevelOperators(nn.Module):
    """The operators T_k of one level: I, h ∂/∂x_d, D⁻¹K(κ), and the inverse on the coarsest.

    Args:
        level: nodes and cells.
        inverse: of the coarsest level, None on others.
        dtype: of arithmetic.
    """

    def __init__(self, level: Level, inverse: CoarseInverse | None, dtype: torch.dtype) -> None:
        super().__init__()
        slopes = _recovered_gradient(level)
        self.slopes = SparseMap(sp.vstack(slopes), dtype)
        self.gdim = len(slopes)
        self.count = 2 + self.gdim + (inverse is not None)
        self.inverse = inverse

    def forward(self, x: Tensor, stiffness: Stiffness, factor: Tensor | None) -> list[Tensor]:
        """Return T_k x for every k, x of (nodes, batch, channels), in groups (k, nodes · batch, channels)."""
        parts = [x, stiffness.scaled @ x]
        if self.inverse is not None and factor is not None:
            parts.append(self.inverse(x, factor))
        flat = [part.reshape(1, -1, x.shape[2]) for part in parts]
        return [*flat, self.slopes(x).reshape(self.gdim, -1, x.shape[2])]


class CoarseInverse(nn.Module):
    """x ↦ c A⁻¹ M x with A = K(κ) at the free nodes, 0 at the fixed.

    Without fixed nodes A = K(κ) + M/L², L the extent of the mesh. c makes the largest entry of
    A⁻¹ M 1 equal to one for κ = 1.

    Args:
        level: the coarsest.
        pattern: of its stiffness.
        dtype: of arithmetic.
    """

    mass: Tensor
    shift: Tensor
    free: Tensor
    entries: Tensor
    places: Tensor

    def __init__(self, level: Level, pattern: SymmetricPattern, dtype: torch.dtype) -> None:
        super().__init__()
        free = np.flatnonzero(~level.fixed)
        extent = float(np.ptp(level.points, axis=0).max())
        mass, stiffness = level.mass.toarray()[free], level.stiffness.toarray()[np.ix_(free, free)]
        shift = np.zeros_like(stiffness) if level.fixed.any() else mass[:, free] / extent**2
        scale = 1.0 / np.linalg.solve(stiffness + shift, mass.sum(axis=1)).max()
        number = np.full(len(level.points), -1)
        number[free] = np.arange(len(free))
        rows, columns = number[pattern.rows.numpy()], number[pattern.columns.numpy()]
        entries = np.flatnonzero((rows >= 0) & (columns >= 0))
        places = rows[entries] * len(free) + columns[entries]
        for name, array in (("mass", scale * mass), ("shift", shift)):
            self.register_buffer(name, torch.as_tensor(array).to(dtype), persistent=False)
        for name, array in (("free", free), ("entries", entries), ("places", places)):
            self.register_buffer(name, torch.as_tensor(array), persistent=False)

    def factorise(self, values: Tensor) -> Tensor:
        """Return Cholesky factors (batch or 1, free, free).

        Args:
            values: (entries, batch or 1) of K(κ).

        Raises:
            SponError: not positive definite.
        """
        n = len(self.free)
        dense = values.new_zeros(values.shape[1], n * n)
        matrix = dense.index_copy(1, self.places, values[self.entries].T).reshape(-1, n, n)
        with torch.autocast(values.device.type, enabled=False):  # a factorisation wants all digits
            factor, failed = torch.linalg.cholesky_ex(matrix + self.shift)
        if bool(failed.any()):
            raise SponError("the stiffness of the coarsest level is not positive definite: κ must be > 0")
        return factor

    def solve(self, rhs: Tensor, factor: Tensor) -> Tensor:
        """Return A⁻¹ b at the free nodes, 0 at others; (nodes, batch, channels) both ways."""
        solved = torch.cholesky_solve(rhs[self.free].transpose(0, 1), factor).transpose(0, 1)
        return rhs.new_zeros(rhs.shape).index_copy(0, self.free, solved)

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        """Return c A⁻¹ M x, (nodes, batch, channels)."""
        n, batch, channels = x.shape
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.mass.dtype)
            rhs = (self.mass @ x.reshape(n, -1)).reshape(-1, batch, channels).transpose(0, 1)
            solved = torch.cholesky_solve(rhs, factor).transpose(0, 1)
            return x.new_zeros(n, batch, channels).index_copy(0, self.free, solved)


def _recovered_gradient(level: Level) -> list[sp.csr_array]:
    """The recovered gradient at each node, times the local mesh size h."""
    size = sp.diags_array(level.lumped_mass ** (1.0 / level.gdim))
    return [sp.csr_array(size @ direction) for direction in level.recovered_gradient]
