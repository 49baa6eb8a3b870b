"""The stiffness matrices K(κ) of a batch of samples on every level of a hierarchy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.level import Level
from spon.nn.processors.base import Encoded
from spon.nn.sample_matrices import SampleMatrix, SymmetricPattern
from spon.nn.sparse import SparseMap

__all__ = ["LevelStiffness", "QuadratureCoefficient", "Stiffness", "level_gradients"]


@dataclass(frozen=True)
class Stiffness:
    """K(κ) of a batch on one level.

    Args:
        values: (entries, batch or 1) of the pattern.
        diagonal: (nodes, batch or 1).
        scaled: D⁻¹K with D the diagonal.
        rows: (entries,) of the pattern.
    """

    values: Tensor
    diagonal: Tensor
    scaled: SampleMatrix
    rows: Tensor

    @property
    def bound(self) -> Tensor:
        """Of the largest eigenvalue of D⁻¹K, (batch or 1,): its largest row sum of moduli (Gershgorin)."""
        sums = torch.zeros_like(self.diagonal).index_add(0, self.rows, self.values.abs())
        return (sums / self.diagonal).amax(dim=0)


class QuadratureCoefficient(nn.Module):
    """Weights w κ at the quadrature points of the finest level, from the first input.

    A value for each cell is taken as it is; any other field by its nodal values.

    Args:
        discretisation: with the first input.
        dtype: of the weights.

    Attributes:
        dofs: of the first input.
    """

    weights: Tensor

    def __init__(self, discretisation: Discretisation, dtype: torch.dtype) -> None:
        super().__init__()
        level = discretisation.levels[0]
        self.dofs = discretisation.input.dofs
        self.cellwise = _cellwise(discretisation)
        self.repeats = len(level.weights) // len(level.cells)
        self.average = SparseMap(level.values, dtype)
        self.register_buffer("weights", torch.as_tensor(level.weights).to(dtype), persistent=False)

    def forward(self, encoded: Encoded | None) -> Tensor:
        """Return w κ (points, batch); w (points, 1) for None."""
        weights = self.weights[:, None]
        if encoded is None:
            return weights
        if self.cellwise:
            kappa = encoded.raw[:, : self.dofs].T.to(weights.dtype)
            return weights * kappa.repeat_interleave(self.repeats, dim=0)
        assert encoded.coefficient is not None
        return weights * self.average(encoded.coefficient)


def _cellwise(discretisation: Discretisation) -> bool:
    """Whether the first input is a value for each cell, in the order of the cells: its mass tells."""
    level, space = discretisation.levels[0], discretisation.input
    if space.components != 1 or space.dofs != len(level.cells) or space.mass.nnz != space.dofs:
        return False
    measures = level.weights.reshape(len(level.cells), -1).sum(axis=1)
    return bool(np.allclose(space.mass.diagonal(), measures, rtol=1e-9))


def level_gradients(levels: tuple[Level, ...]) -> list[sp.csr_array]:
    """Return the gradient at the finest quadrature points of the functions of each level.

    Gᵀ (w κ ⊙ G) is then the Galerkin operator Pᵀ K(κ) P, which for nested meshes is the coarse stiffness
    with κ averaged over the cells that a coarse cell is made of.
    """
    out = [levels[0].gradient]
    for level in levels[:-1]:
        assert level.prolongation is not None
        out.append(sp.csr_array(out[-1] @ level.prolongation))
    return out


class LevelStiffness(nn.Module):
    """κ ↦ K(κ) on one level: its entries are linear in w κ.

    Args:
        gradient: (gdim · points, nodes) of the level's functions at the finest quadrature points.
        gdim: geometric dimension.
        dtype: of the values.
    """

    def __init__(self, gradient: sp.csr_array, gdim: int, dtype: torch.dtype) -> None:
        super().__init__()
        rows, columns, entries = _products(gradient, gdim)
        self.pattern = SymmetricPattern(rows, columns, gradient.shape[1])
        self.entries = SparseMap(entries, dtype)

    def forward(self, weights: Tensor) -> Stiffness:
        """Assemble from w κ (points, batch or 1)."""
        pattern = self.pattern
        values = self.entries(weights)
        diagonal = values[pattern.diagonal]
        scale = diagonal.reciprocal()
        scaled = pattern.matrix(values * scale[pattern.rows], values * scale[pattern.columns])
        return Stiffness(values, diagonal, scaled, pattern.rows)


def _products(gradient: sp.csr_array, gdim: int) -> tuple[np.ndarray, np.ndarray, sp.csr_array]:
    """Return the pattern of Gᵀ(w ⊙ G), and its entries as a matrix (entries, points) that acts on w."""
    points, n = gradient.shape[0] // gdim, gradient.shape[1]
    keys, where, values = [], [], []
    for d in range(gdim):
        part = sp.csr_array(gradient[d * points : (d + 1) * points])
        counts = np.diff(part.indptr)
        for count in np.unique(counts[counts > 0]):
            rows = np.flatnonzero(counts == count)
            at = part.indptr[rows][:, None] + np.arange(count)
            columns, slopes = part.indices[at].astype(np.int64), part.data[at]
            keys.append((columns[:, :, None] * n + columns[:, None, :]).ravel())
            values.append((slopes[:, :, None] * slopes[:, None, :]).ravel())
            where.append(np.repeat(rows, count * count))
    pattern, entry = np.unique(np.concatenate(keys), return_inverse=True)
    data = (np.concatenate(values), (entry, np.concatenate(where)))
    entries = sp.csr_array(sp.coo_array(data, shape=(len(pattern), points)))
    return pattern // n, pattern % n, entries
