"""Uniform refinement of input meshes, and hierarchies of nested levels.

Refinement works on the plain arrays, before DOLFINx renumbers anything: parents, tags and the
canonical numbering follow from the construction and are the same on any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spon.errors import SponError
from spon.fem.arrays import MeshArrays

__all__ = ["Nesting", "refine"]


def refine(coarse: MeshArrays) -> tuple[MeshArrays, Nesting]:
    """Split every triangle into four.

    The coarse points keep their numbers, edge midpoints follow in the order of their end points;
    the children of cell p are 4p, …, 4p + 3. Curved boundaries keep the coarse polygon.

    Args:
        coarse: mesh of triangles.

    Returns:
        The fine mesh, and the prolongation (fine points, coarse points) of P1 functions, exact.

    Raises:
        SponError: the cells are not triangles.
    """
    if coarse.cell_type != "triangle":
        raise SponError(f"{coarse.source}: cannot refine {coarse.cell_type} cells; allowed: triangle")
    corners = coarse.cells
    n, m = len(coarse.points), len(corners)
    edges = np.sort(corners[:, [[1, 2], [0, 2], [0, 1]]].reshape(-1, 2), axis=1)  # opposite vertex i
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    a, b, c = corners.T
    bc, ac, ab = (n + inverse.reshape(m, 3)).T
    children = np.stack([[a, ab, ac], [b, bc, ab], [c, ac, bc], [bc, ac, ab]])  # (child, vertex, cell)
    cells = children.transpose(2, 0, 1).reshape(-1, 3)
    fine = replace(
        coarse,
        points=np.concatenate([coarse.points, coarse.points[unique].mean(axis=1)]),
        cells=cells,
        cell_tags=np.repeat(coarse.cell_tags, 4),
        facets=_halve(coarse.facets, unique, n),
        facet_tags=np.repeat(coarse.facet_tags, 2),
    )
    # children vertices in the parent's reference coordinates
    A, B, C = np.array([0.0, 0]), np.array([1.0, 0]), np.array([0.0, 1])
    AB, AC, BC = (A + B) / 2, (A + C) / 2, (B + C) / 2
    tri = np.array([[A, AB, AC], [B, BC, AB], [C, AC, BC], [BC, AC, AB]])
    return fine, Nesting(
        np.repeat(np.arange(m), 4),
        np.tile(np.arange(4), m),
        tri[:, 0],
        np.stack([tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0]], axis=2),
    )


def _halve(facets: np.ndarray, edges: np.ndarray, n: int) -> np.ndarray:
    if len(facets) == 0:
        return facets
    ends = np.sort(facets, axis=1)
    middle = n + np.searchsorted(edges @ [n, 1], ends @ [n, 1])
    return np.stack([facets[:, 0], middle, middle, facets[:, 1]], axis=1).reshape(-1, 2)


@dataclass(frozen=True)
class Nesting:
    """Temporary."""

    parents: np.ndarray
    kinds: np.ndarray
    origins: np.ndarray
    matrices: np.ndarray

    def locate(self, cells, X):
        k = self.kinds[cells]
        return self.parents[cells], self.origins[k] + np.einsum("nij,nj->ni", self.matrices[k], X)
