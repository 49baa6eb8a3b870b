"""Sparse products whose pattern does not depend on round-off."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

__all__ = ["congruent"]


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
