"""The point of a cell that is nearest to a point outside."""

from __future__ import annotations

import basix
import numpy as np
import numpy.typing as npt

from spon.fem.geometry import Geometry
from spon.fem.topology import REFERENCE

__all__ = ["clipped", "closest"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_STEPS = 12


def clipped(X: Floats, simplex: bool) -> Floats:
    """Return reference coordinates (n, d) moved into the reference simplex or box."""
    if not simplex:
        return np.clip(X, 0.0, 1.0)
    X = np.maximum(X, 0.0)
    return np.asarray(X / np.maximum(X.sum(axis=1, keepdims=True), 1.0))


def closest(geometry: Geometry, cells: Integers, x: Floats) -> tuple[Floats, Floats]:
    """Return the nearest points on the surfaces of cells, by Gauss and Newton on each edge and face.

    Args:
        geometry: coordinate maps.
        cells: (n,).
        x: (n, gdim), outside of the cells.

    Returns:
        X (n, tdim) in the reference cell, and the distances (n,): exact for straight edges and plane
        faces; for curved ones a minimum near the middle of the edge or face.
    """
    kind = REFERENCE[geometry.arrays.cell_type]
    corners, topology = basix.geometry(kind), basix.topology(kind)
    best, distance = np.zeros(x.shape), np.full(len(x), np.inf)
    for dim in range(1, x.shape[1]):
        for entity in topology[dim]:
            simplex = len(entity) == dim + 1
            frame = (corners[entity[1 : dim + 1]] - corners[entity[0]]).T
            t: Floats = np.full((len(x), dim), 1 / (dim + 1) if simplex else 0.5)
            for step in range(_STEPS):
                X = corners[entity[0]] + t @ frame.T
                residual = x - geometry.points(cells, X)
                gap = np.linalg.norm(residual, axis=1)
                closer = gap < distance
                best[closer], distance[closer] = X[closer], gap[closer]
                if step == _STEPS - 1:
                    break
                tangents = geometry.jacobians(cells, X) @ frame
                t = clipped(t + (np.linalg.pinv(tangents) @ residual[:, :, None])[:, :, 0], simplex)
    return best, distance
