"""The operator of one level of a multigrid hierarchy, with a modulus in each cell of each sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.level import Level
from spon.nn.sparse import SparseMap

__all__ = ["Grid", "Operator", "parents"]

Floats = npt.NDArray[np.float64]


class Grid(nn.Module):
    """A = Bᵀ (a ⊙ B) on the free unknowns of a level, B = √w L ∇ Z at its quadrature points.

    a is a number in each cell, or a symmetric (rows, rows) matrix in each cell; L is the identity then.

    Args:
        level: mesh and gradients.
        Z: (nodes · components, free) admissible functions of the level.
        factor: (rows, gdim · components) L, LᵀL the moduli of the undeformed body.
        full: whether the moduli are matrices.
        dtype: of the maps.
        finer: for an algebraic level, the next finer grid and the prolongation (its free, free), of which
            this is the Galerkin operator.

    Attributes:
        bound: of the eigenvalues of D⁻¹A, D the diagonal: the largest of a cell's own D_K⁻¹A_K (Fried 1972,
            J. Sound Vib. 22, 407), for any moduli that are numbers; for matrices that of the undeformed body.
        unit: (1, 1) or (rows, rows, 1, 1), the moduli of the undeformed body for a coefficient of one.
    """

    unit: Tensor

    def __init__(
        self,
        level: Level,
        Z: sp.csr_array,
        factor: Floats,
        full: bool,
        dtype: torch.dtype,
        finer: tuple[Grid, sp.csr_array] | None = None,
    ) -> None:
        super().__init__()
        self.full, self.free = full, int(Z.shape[1])
        mesh = level if level.finer is None else _finest_mesh(level)
        self.cells, points = len(mesh.cells), len(level.weights)
        if finer is not None:
            undeformed, B = (sp.csr_array(part @ finer[1]) for part in (finer[0].undeformed, finer[0].strain))
        else:
            undeformed = _strain(level, Z, factor)
            B = _strain(level, Z, np.eye(factor.shape[1])) if full else undeformed
        self.undeformed: sp.csr_array = undeformed
        self.strain: sp.csr_array = B
        self.rows = B.shape[0] // points
        self.gradient = SparseMap(B, dtype)
        cell = np.arange(points) // (points // self.cells)
        self._pairs = [(i, j) for i in range(self.rows) for j in range(i, self.rows)] if full else []
        rows = [B[i * points : (i + 1) * points] for i in range(self.rows)]
        collect = sp.csr_array(
            (np.ones(points), (cell, np.arange(points))), shape=(self.cells, points)
        )  # sums over the points of a cell
        if full:
            squares = [collect @ rows[i].multiply(rows[j]) * (1 if i == j else 2) for i, j in self._pairs]
        else:
            squares = [sum(collect @ row.power(2) for row in rows)]
        self.diagonal = SparseMap(sp.csr_array(sp.vstack(squares, format="csr").T), dtype)
        self.bound = 1.05 * _largest(undeformed, points, cell)
        unit = torch.as_tensor(factor.T @ factor)[:, :, None, None] if full else torch.ones(1, 1)
        self.register_buffer("unit", unit.to(dtype), persistent=False)
        self._cell, self._dtype = cell, dtype

    def prepare_dense(self) -> None:
        """Make what `matrices` needs."""
        n = self.free
        pairs = self._pairs or [(i, i) for i in range(self.rows)]
        points = len(self._cell)
        strain = [self.strain[i * points : (i + 1) * points] for i in range(self.rows)]
        found = []
        for number, (i, j) in enumerate(pairs):
            block = self.cells * number if self.full else 0
            for a, b in ((i, j), (j, i))[: 2 if i != j else 1]:
                q, left, right, value = _row_products(strain[a], strain[b])
                found.append((value, left.astype(np.int64) * n + right, block + self._cell[q]))
        value, entry, column = (np.concatenate(part) for part in zip(*found, strict=True))
        pattern, row = np.unique(entry, return_inverse=True)
        width = self.cells * (len(pairs) if self.full else 1)
        self.entries = SparseMap(
            sp.csr_array((value, (row, column)), shape=(len(pattern), width)), self._dtype
        )
        self.register_buffer("pattern", torch.as_tensor(pattern), persistent=False)

    def matrices(self, moduli: Tensor) -> Tensor:
        """Return A of each sample, (batch, free, free)."""
        batch = moduli.shape[-1]
        out = moduli.new_zeros(self.free * self.free, batch)
        out[self.pattern] = self.entries(self._stacked(moduli))
        return out.T.reshape(batch, self.free, self.free)

    def _stacked(self, moduli: Tensor) -> Tensor:
        """Return moduli as (cells or pairs · cells, batch)."""
        return torch.cat([moduli[i, j] for i, j in self._pairs]) if self.full else moduli

    def operator(self, moduli: Tensor) -> Operator:
        """Return A for moduli (cells, batch) or (rows, rows, cells, batch)."""
        return Operator(self, moduli, self.diagonal(self._stacked(moduli)).reciprocal())


class Operator:
    """A of a batch.

    Args:
        grid: of the level.
        moduli: (cells, batch) or (rows, rows, cells, batch).
        inverse_diagonal: (free, batch).
    """

    def __init__(self, grid: Grid, moduli: Tensor, inverse_diagonal: Tensor) -> None:
        self.grid, self.moduli, self.inverse_diagonal = grid, moduli, inverse_diagonal

    def __call__(self, x: Tensor) -> Tensor:
        """Return A x, (free, batch)."""
        grid, batch = self.grid, x.shape[1]
        strain = grid.gradient(x).reshape(grid.rows, grid.cells, -1, batch)
        stress = _contracted(self.moduli, strain) if grid.full else strain * self.moduli[:, None]
        out: Tensor = grid.gradient.transposed(stress.reshape(-1, batch))
        return out

    def select(self, samples: Tensor) -> Operator:
        """Return the operator of some samples of the batch."""
        return Operator(self.grid, self.moduli[..., samples], self.inverse_diagonal[:, samples])

    def smooth(self, x: Tensor | None, rhs: Tensor, degree: int) -> Tensor:
        """Take Chebyshev steps for A x = rhs, preconditioned by the diagonal, for the upper eigenvalues.

        The error is multiplied by a polynomial in D⁻¹A that is the same before and after the correction by
        the coarser level, so that a cycle is symmetric (Adams et al. 2003, J. Comput. Phys. 188, 593).

        Args:
            x: (free, batch); None: zero.
            rhs: (free, batch).
            degree: number of steps, ≥ 1.
        """
        upper = self.grid.bound
        centre, radius = upper * (1 + _LOWER) / 2, upper * (1 - _LOWER) / 2
        residual = rhs if x is None else rhs - self(x)
        step = self.inverse_diagonal * residual / centre
        x = step if x is None else x + step
        rho = radius / centre
        for _ in range(degree - 1):
            residual = residual - self(step)
            following = 1.0 / (2.0 * centre / radius - rho)
            step = following * rho * step + 2.0 * following / radius * self.inverse_diagonal * residual
            rho = following
            x = x + step
        return x


_LOWER = 0.25  # of the spectrum that is left to the coarser level


def _contracted(moduli: Tensor, strain: Tensor) -> Tensor:
    """Return Σ_j moduli_ij strain_j, (rows, cells, points of a cell, batch).

    Row by row: as a product of matrices (`torch.einsum`) it copies its arguments, and takes eight times as
    long for as small matrices as these.

    Args:
        moduli: (rows, rows, cells, batch).
        strain: (rows, cells, points of a cell, batch).
    """
    stress = moduli[:, 0, :, None] * strain[0]
    for j in range(1, len(strain)):
        stress = stress.addcmul_(moduli[:, j, :, None], strain[j])
    return stress


def parents(fine: Level, coarse: Level) -> sp.csr_array:
    """Return shares of fine cells in the mean over each coarse cell, by volume: (coarse, fine cells).

    A fine cell belongs to the coarse cell whose basis functions add up to most at its nodes: its own where
    meshes are nested. A coarse cell that is nobody's takes the fine cell that has most of it.

    Args:
        fine: of the same or a finer mesh, with a prolongation.
        coarse: the next level.
    """
    assert fine.prolongation is not None
    n, m = fine.cells.shape
    at = sp.csr_array((np.full(n * m, 1.0 / m), fine.cells.ravel(), np.arange(0, n * m + 1, m)))
    at.resize(n, len(fine.points))
    k, corners = coarse.cells.shape
    cells = sp.csr_array((np.ones(k * corners), coarse.cells.ravel(), np.arange(0, k * corners + 1, corners)))
    cells.resize(k, len(coarse.points))
    overlap = sp.csr_array(at @ fine.prolongation @ cells.T)
    owner = _argmax(overlap)
    volume = fine.weights.reshape(n, -1).sum(axis=1)
    children, weight = np.arange(n), volume
    missing = np.setdiff1d(np.arange(k), owner)
    if len(missing):
        nearest = _argmax(sp.csr_array(overlap.T[missing]))
        owner, children = np.concatenate([owner, missing]), np.concatenate([children, nearest])
        weight = np.concatenate([volume, volume[nearest]])
    total = np.bincount(owner, weight, minlength=k)
    return sp.csr_array((weight / total[owner], (owner, children)), shape=(k, n))


def _argmax(matrix: sp.csr_array) -> npt.NDArray[np.int64]:
    """Return the column of the largest entry of each row, the first of equals."""
    best = np.maximum.reduceat(matrix.data, matrix.indptr[:-1])
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    top = np.flatnonzero(matrix.data >= best[row] - 1e-12)
    out = np.empty(matrix.shape[0], dtype=np.int64)
    out[row[top][::-1]] = matrix.indices[top][::-1]
    return out


def _finest_mesh(level: Level) -> Level:
    """Return the level whose cells an algebraic one integrates on."""
    while level.finer is not None:
        level = level.finer
    return level


def _strain(level: Level, Z: sp.csr_array, factor: Floats) -> sp.csr_array:
    """Return √w L ∇ Z, (rows · points, free)."""
    components = Z.shape[0] // len(level.points)
    n, weights = len(level.weights), sp.diags_array(np.sqrt(level.weights))
    slopes = [weights @ level.gradient[d * n : (d + 1) * n] for d in range(level.gdim)]
    columns = [sp.csr_array(Z[c::components]) for c in range(components)]
    parts = [slopes[d] @ columns[c] for d in range(level.gdim) for c in range(components)]
    rows = [sum(value * part for value, part in zip(row, parts, strict=True) if value != 0) for row in factor]
    out = sp.csr_array(sp.vstack(rows, format="csr"))
    out.data[np.abs(out.data) < 1e-14 * np.abs(out.data).max()] = 0.0
    out.eliminate_zeros()
    return out


def _row_products(
    A: sp.csr_array, B: sp.csr_array
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32], Floats]:
    """Return all A_qi B_qj as row q, i, j and value."""
    left, right = np.diff(A.indptr), np.diff(B.indptr)
    counts = left * right
    q = np.repeat(np.arange(A.shape[0]), counts)
    k = np.arange(len(q)) - np.repeat(np.cumsum(counts) - counts, counts)
    first, second = A.indptr[q] + k // right[q], B.indptr[q] + k % right[q]
    return q, A.indices[first], B.indices[second], A.data[first] * B.data[second]


def _largest(B: sp.csr_array, points: int, cell: npt.NDArray[np.int64]) -> float:
    """Return the largest eigenvalue of D_K⁻¹ A_K over the cells, A_K = B_KᵀB_K, that of B_K D_K⁻¹ B_Kᵀ."""
    rows = B.shape[0] // points
    cells = int(cell[-1]) + 1
    order = np.arange(rows * points).reshape(rows, cells, -1).transpose(1, 0, 2).reshape(cells, -1)
    width = order.shape[1]
    sorted_rows = sp.csr_array(B[order.ravel()])
    counts = np.diff(sorted_rows.indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    block, local = np.divmod(row, width)
    key = block.astype(np.int64) * B.shape[1] + sorted_rows.indices
    unique, column = np.unique(key, return_inverse=True)
    owner = unique // B.shape[1]
    start = np.searchsorted(owner, np.arange(cells))
    dense = np.zeros((cells, width, int(np.bincount(owner).max(initial=1))))
    dense[block, local, column - start[block]] = sorted_rows.data
    squares = (dense**2).sum(axis=1, keepdims=True)
    scaled = dense / np.sqrt(np.where(squares > 0, squares, 1.0))
    gram = scaled @ scaled.transpose(0, 2, 1)
    return float(np.linalg.eigvalsh(gram)[:, -1].max())
