"""Find equal rows of integers by one key for each row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["row_keys", "unique_rows"]

Integers = npt.NDArray[np.int64]


def row_keys(rows: Integers) -> Integers:
    """Return a number for each row that is equal for equal rows and keeps their lexicographic order.

    Args:
        rows: (rows, columns) int64, ≥ 0.

    Returns:
        (rows,) int64, to be compared within one call only.
    """
    key = rows[:, 0]
    bound = int(key.max(initial=0)) + 1
    for column in rows.T[1:]:
        base = int(column.max(initial=0)) + 1
        if bound * base > np.iinfo(np.int64).max:
            _, key = np.unique(key, return_inverse=True)
            key = key.reshape(-1)
            bound = int(key.max(initial=0)) + 1
        key = key * base + column
        bound *= base
    return np.asarray(key, dtype=np.int64)


def unique_rows(rows: Integers) -> tuple[Integers, Integers]:
    """Return the unique rows in lexicographic order, and the number of each row among them.

    Args:
        rows: (n, k) int64, ≥ 0.
    """
    key = row_keys(rows)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = np.ones(len(key), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=starts[1:])
    number = np.empty(len(key), dtype=np.int64)
    number[order] = np.cumsum(starts) - 1
    return rows[order[starts]], number
