"""Divide a mesh between ranks by recursive bisection of its extent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spon.fem.arrays import MeshArrays
from spon.fem.rows import row_keys

__all__ = ["bisected", "destinations"]

Integers = npt.NDArray[np.int64]


def bisected(points: npt.NDArray[np.float64], parts: int) -> Integers:
    """Return the part of each point: cut across the longest side, again and again.

    Recursive coordinate bisection (Berger & Bokhari 1987, IEEE Trans. Comput. C-36): parts of equal size,
    the same for the same points, in a fraction of the time of a graph partitioner.

    Args:
        points: (n, gdim).
        parts: ≥ 1.

    Returns:
        (n,) from 0 to parts − 1.
    """
    out = np.zeros(len(points), dtype=np.int64)
    if parts == 1 or len(points) == 0:
        return out
    low = parts // 2
    along = points[:, np.ptp(points, axis=0).argmax()]
    order = np.argsort(along, kind="stable")
    cut = len(points) * low // parts
    for members, first, count in ((order[:cut], 0, low), (order[cut:], low, parts - low)):
        out[members] = first + bisected(points[members], count)
    return out


def destinations(
    arrays: MeshArrays, parts: int, shared: bool
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the ranks that each cell goes to, its owner first.

    Args:
        arrays: the whole mesh.
        parts: number of ranks.
        shared: whether a rank also gets the cells that touch one of its own at a facet.

    Returns:
        (destinations,) and (cells + 1,) offsets of each cell.
    """
    owner = bisected(arrays.centroids, parts)
    if not shared:
        return owner.astype(np.int32), np.arange(len(owner) + 1, dtype=np.int32)
    cell, rank = _touching(arrays, owner)
    cells = np.concatenate([np.arange(len(owner)), cell])
    ranks = np.concatenate([owner, rank])
    order = np.argsort(cells, kind="stable")  # owners come first
    offsets = np.concatenate([[0], np.cumsum(np.bincount(cells))])
    return ranks[order].astype(np.int32), offsets.astype(np.int32)


def _touching(arrays: MeshArrays, owner: Integers) -> tuple[Integers, Integers]:
    """Return cells at facets between ranks, each with every other rank there."""
    low, high = np.full(len(arrays.points), len(owner)), np.full(len(arrays.points), -1)
    corners = arrays.corners
    np.minimum.at(low, corners, owner[:, None])
    np.maximum.at(high, corners, owner[:, None])
    between = low < high
    cells = np.flatnonzero(between[corners].sum(axis=1) >= arrays.tdim)  # that have a facet there, if any
    sides = arrays.sides[cells]
    keys = row_keys(np.sort(sides.reshape(-1, sides.shape[2]), axis=1))
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    one, other = (cells[order[same + k] // sides.shape[1]] for k in (0, 1))
    pairs = np.concatenate([np.stack([one, owner[other]], 1), np.stack([other, owner[one]], 1)])
    return tuple(np.unique(pairs[owner[pairs[:, 0]] != pairs[:, 1]], axis=0).T)
