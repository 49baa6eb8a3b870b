"""A tree of bounding boxes: all the cells that may lie near each of many points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from spon.fem import reference
from spon.fem.arrays import MeshArrays

__all__ = ["Boxes", "control_points"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CHILDREN = 4
_CHUNK = 1 << 15  # points at a time
_PAIRS = 1 << 22  # of points and boxes in memory


def control_points(arrays: MeshArrays) -> Floats:
    """Return points of each cell whose convex hull holds the cell, (cells, points, gdim).

    The corners of a straight cell; the Bernstein-Bézier control points of a curved one (Farin 2002,
    "Curves and surfaces for CAGD", section 5.2), which may lie outside of it.
    """
    nodes = arrays.points[arrays.cells]
    if arrays.degree == 1:
        return nodes
    X = reference.nodes(arrays.cell_type, arrays.degree)
    if arrays.cell_type in ("triangle", "tetrahedron"):
        barycentric = np.column_stack([1 - X.sum(axis=1), X])
        # every node of a quadratic cell is the middle of two corners: λᵢλⱼ, with 2 for i ≠ j
        i, j = np.triu_indices(barycentric.shape[1])
        basis = barycentric[:, i] * barycentric[:, j] * np.where(i == j, 1.0, 2.0)
    else:
        basis = np.ones((len(X), 1))
        for x in X.T:
            line = np.stack([(1 - x) ** 2, 2 * x * (1 - x), x**2], axis=1)
            basis = (basis[:, :, None] * line[:, None]).reshape(len(X), -1)
    return np.einsum("bn,cnd->cbd", np.linalg.inv(basis), nodes)


class Boxes:
    """Boxes in groups of four, these in groups of four, and so on.

    Args:
        low: (boxes, gdim) lowest coordinates.
        high: (boxes, gdim) highest ones.
    """

    def __init__(self, low: Floats, high: Floats) -> None:
        # leaves of a k-d tree of the centres: what is near in space is near in this order
        self.order: Integers = np.asarray(cKDTree((low + high) / 2, leafsize=_CHILDREN).indices, np.int64)
        low, high = low[self.order], high[self.order]
        self.levels: list[tuple[Floats, Floats]] = []
        while True:
            missing = -len(low) % _CHILDREN
            low = np.pad(low, ((0, missing), (0, 0)), constant_values=np.inf)
            high = np.pad(high, ((0, missing), (0, 0)), constant_values=-np.inf)
            self.levels.append((low, high))
            if len(low) == _CHILDREN:
                break
            low = low.reshape(-1, _CHILDREN, low.shape[1]).min(axis=1)
            high = high.reshape(-1, _CHILDREN, high.shape[1]).max(axis=1)

    def around(self, x: Floats, radius: float | Floats) -> Iterator[tuple[Integers, Integers]]:
        """Yield all pairs of a point and a box within its radius, some points at a time.

        Args:
            x: (n, gdim).
            radius: one for all, or (n,).

        Yields:
            Point numbers (pairs,) and box numbers (pairs,); all pairs of a point come together.
        """
        radius = np.broadcast_to(radius, len(x))
        parts = [np.arange(first, min(first + _CHUNK, len(x))) for first in range(0, len(x), _CHUNK)]
        while parts:
            part = parts.pop()
            pairs = self._pairs(x[part], radius[part], len(part) > 1)
            if pairs is None:
                parts += np.array_split(part, 2)
            else:
                yield part[pairs[0]], pairs[1]

    def _pairs(self, x: Floats, radius: Floats, may_stop: bool) -> tuple[Integers, Integers] | None:
        """Return the pairs; None where there are too many of them to hold."""
        which, box = np.arange(len(x)), np.zeros(len(x), np.int64)
        for low, high in reversed(self.levels):
            if may_stop and len(which) * _CHILDREN > _PAIRS:
                return None
            which = np.repeat(which, _CHILDREN)
            box = (box[:, None] * _CHILDREN + np.arange(_CHILDREN)).ravel()
            square = np.zeros(len(which))
            for d in range(x.shape[1]):
                here = x[which, d]
                square += np.maximum(np.maximum(low[box, d] - here, here - high[box, d]), 0.0) ** 2
            near = square <= radius[which] ** 2
            which, box = which[near], box[near]
        return which, self.order[box]
