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
            t = np.full((len(x), dim), 1 / (dim + 1) if simplex else 0.5)
            active = np.arange(len(x))
            for _ in range(_STEPS):
                X = corners[entity[0]] + t[active] @ frame.T
                residual = x[active] - geometry.points(cells[active], X)
                gap = np.linalg.norm(residual, axis=1)
                closer = gap < distance[active]
                best[active[closer]], distance[active[closer]] = X[closer], gap[closer]
                tangents = geometry.jacobians(cells[active], X) @ frame
                moved = clipped(t[active] + _least_squares(tangents, residual), simplex)
                change = np.abs(moved - t[active]).max(axis=1, initial=0.0)
                t[active] = moved
                active = active[change > 1e-14]
                if len(active) == 0:
                    break
    return best, distance


def _least_squares(G: Floats, r: Floats) -> Floats:
    """Minimise |G s − r| for G (n, gdim, 1 or 2), r (n, gdim) by the normal equations; 0 where singular."""
    A, b = np.einsum("nij,nik->njk", G, G), np.einsum("nij,ni->nj", G, r)
    if G.shape[2] == 1:
        adjugate, size = np.ones_like(A), A[:, 0, 0]
    else:
        adjugate = A[:, ::-1, ::-1] * np.array([[1.0, -1.0], [-1.0, 1.0]])
        size = A[:, 0, 0] * A[:, 1, 1] - A[:, 0, 1] ** 2
    safe = np.where(size > 0, size, np.inf)
    return np.asarray(np.einsum("njk,nk->nj", adjugate, b) / safe[:, None])
