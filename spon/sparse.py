"""Sparse products whose pattern does not depend on round-off, and inverses of small blocks."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from spon.errors import SponError

__all__ = ["block_inverse", "congruent"]


def block_inverse(matrix: sp.csr_array) -> sp.csr_array:
    """Return the inverse of a matrix that is block-diagonal, with small blocks, after a permutation.

    Args:
        matrix: (n, n), regular.

    Raises:
        SponError: a block of more than 100 rows.
    """
    n = matrix.shape[0]
    block = connected_components(matrix, directed=False)[1]
    order = np.argsort(block, kind="stable")
    size = np.bincount(block)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n) - np.repeat(np.cumsum(size) - size, size)
    width = int(size.max(initial=1))
    if width > 100:
        raise SponError(f"a block of {width} rows in a matrix of {n}; allowed: 100")
    dense = np.zeros((len(size), width, width))
    unused = np.arange(width) >= size[:, None]
    dense[:, np.arange(width), np.arange(width)] = unused
    entries = matrix.tocoo()
    dense[block[entries.row], place[entries.row], place[entries.col]] = entries.data
    number = np.full((len(size), width), -1)
    number[block, place] = np.arange(n)
    used = ~unused[:, :, None] & ~unused[:, None, :]
    rows = np.broadcast_to(number[:, :, None], used.shape)
    columns = np.broadcast_to(number[:, None, :], used.shape)
    inverse = np.linalg.inv(dense)
    return sp.csr_array((inverse[used], (rows[used], columns[used])), shape=(n, n))


def congruent(matrix: sp.csr_array, left: sp.csr_array | None, right: sp.csr_array | None) -> sp.csr_array:
    """Return Lᵀ A R with every entry of the structural product stored, zeros of cancellation too.

    scipy leaves out entries that cancel exactly, so that the pattern would depend on the last bits
    of A, and with them on the number of ranks.

    Args:
        matrix: A.
        left: L, None for the identity.
        right: R, None for the identity.
    """

    def product(a: sp.csr_array, le: sp.csr_array | None, r: sp.csr_array | None) -> sp.csr_array:
        a = a if le is None else le.T @ a
        return sp.csr_array(a if r is None else a @ r)

    ones = [None if m is None else _ones(m) for m in (matrix, left, right)]
    pattern = product(*ones)
    pattern.sort_indices()
    values = product(matrix, left, right).tocoo()
    width = pattern.shape[1]
    rows = np.repeat(np.arange(pattern.shape[0], dtype=np.int64), np.diff(pattern.indptr))
    keys = rows * width + pattern.indices
    data = np.zeros(pattern.nnz)
    data[np.searchsorted(keys, values.row.astype(np.int64) * width + values.col)] = values.data
    return sp.csr_array((data, pattern.indices, pattern.indptr), shape=pattern.shape)


def _ones(matrix: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
