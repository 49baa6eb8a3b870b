"""Uniform refinement of input meshes, and hierarchies of nested levels.

Refinement works on the plain arrays, before DOLFINx renumbers anything: parents, tags and the
canonical numbering follow from the construction and are the same on any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from spon.errors import SponError
from spon.fem.arrays import MeshArrays
from spon.fem.mesh import TaggedMesh

__all__ = ["Hierarchy", "refine"]


def refine(coarse: MeshArrays) -> tuple[MeshArrays, sp.csr_array]:
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
    rows = np.concatenate([np.arange(n), np.repeat(n + np.arange(len(unique)), 2)])
    columns = np.concatenate([np.arange(n), unique.ravel()])
    values = np.concatenate([np.ones(n), np.full(2 * len(unique), 0.5)])
    shape = (n + len(unique), n)
    return fine, sp.csr_array((values, (rows, columns)), shape=shape)


def _halve(facets: np.ndarray, edges: np.ndarray, n: int) -> np.ndarray:
    if len(facets) == 0:
        return facets
    ends = np.sort(facets, axis=1)
    middle = n + np.searchsorted(edges @ [n, 1], ends @ [n, 1])
    return np.stack([facets[:, 0], middle, middle, facets[:, 1]], axis=1).reshape(-1, 2)


@dataclass(frozen=True)
class Hierarchy:
    """Nested meshes, finest first.

    Attributes:
        meshes: the levels; `meshes[0]` is the one that problems are solved on.
        prolongations: `prolongations[l]` maps P1 functions of level l + 1 to level l.
    """

    meshes: tuple[TaggedMesh, ...]
    prolongations: tuple[sp.csr_array, ...]

    @classmethod
    def uniform(cls, coarse: TaggedMesh, refinements: int) -> Hierarchy:
        """Refine a coarse mesh a number of times. Collective.

        Args:
            coarse: mesh of triangles that resolves the geometry.
            refinements: how often, ≥ 0.

        Raises:
            SponError: a negative number, or cells that cannot be refined.
        """
        if refinements < 0:
            raise SponError(f"refinements = {refinements}; allowed: 0, 1, 2, …")
        hierarchy = cls((coarse,), ())
        for _ in range(refinements):
            hierarchy = hierarchy.refined()
        return hierarchy

    def refined(self) -> Hierarchy:
        """Return the hierarchy with one finer level. Collective."""
        arrays, prolongation = refine(self.finest.arrays)
        finest = TaggedMesh(arrays, self.finest.comm)
        return Hierarchy((finest, *self.meshes), (prolongation, *self.prolongations))

    @property
    def finest(self) -> TaggedMesh:
        """The mesh that problems are solved on."""
        return self.meshes[0]
