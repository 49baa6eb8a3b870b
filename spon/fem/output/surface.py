"""Cells and boundary facets cut into small triangles, for pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.tri import Triangulation

from spon.fem import reference
from spon.fem.mesh import TaggedMesh
from spon.fem.transfer import Location

__all__ = ["Patches", "edges_of", "inside", "surface"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Patches:
    """Triangles whose corners are points of cells; no two cells share a corner.

    Attributes:
        where: the corners.
        triangles: (triangles, 3) numbers of corners.
    """

    where: Location
    triangles: Integers


def inside(mesh: TaggedMesh, intervals: int) -> Patches:
    """Cut every cell of a plane mesh.

    Args:
        mesh: of triangles or quadrilaterals.
        intervals: pieces of an edge.
    """
    X, triangles = _cut(mesh.arrays.cell_type, intervals)
    cells, points = mesh.geometry.everywhere(X)
    return Patches(Location(cells, points), _repeated(triangles, len(mesh.arrays.cells), len(X)))


def surface(mesh: TaggedMesh, intervals: int) -> Patches:
    """Cut every facet on the boundary of a solid.

    Args:
        mesh: of tetrahedra or hexahedra.
        intervals: pieces of an edge.
    """
    X, triangles = _cut(reference.FACET_TYPES[mesh.arrays.cell_type], intervals)
    cells, facets = _outer(mesh)
    where = _on_facets(mesh, cells, facets, X)
    return Patches(where, _repeated(triangles, len(cells), len(X)))


def edges_of(mesh: TaggedMesh, intervals: int = 8) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the edges of a plane mesh as lines.

    Returns:
        (edges, points, 2), and which edges are on the boundary, (edges,).
    """
    _, numbers = mesh.topology.entities(1)
    _, first = np.unique(numbers, return_index=True)
    cells, facets = np.divmod(first, numbers.shape[1])
    X = np.linspace([0.0], [1.0], (1 if mesh.arrays.degree == 1 else intervals) + 1, dtype=np.float64)
    where = _on_facets(mesh, cells, facets, X)
    lines = mesh.geometry.points(where.cells, where.X).reshape(len(cells), len(X), 2)
    return lines, mesh.topology.facet_cells == 1


def _outer(mesh: TaggedMesh) -> tuple[Integers, Integers]:
    """Return cell and local number of the facets on the boundary."""
    _, numbers = mesh.topology.entities(mesh.arrays.tdim - 1)
    cells, facets = np.nonzero(mesh.topology.facet_cells[numbers] == 1)
    return cells, facets


def _on_facets(mesh: TaggedMesh, cells: Integers, facets: Integers, X: Floats) -> Location:
    origins, frames = reference.facet_frames(mesh.arrays.cell_type)
    points = origins[facets][:, None] + np.einsum("fij,pj->fpi", frames[facets], X)
    return Location(np.repeat(cells, len(X)), points.reshape(-1, points.shape[2]))


def _cut(cell_type: str, intervals: int) -> tuple[Floats, Integers]:
    """Return a lattice on a reference cell and triangles between its points."""
    X = reference.lattice(cell_type, intervals)
    return X, np.asarray(Triangulation(*X.T).triangles, dtype=np.int64)


def _repeated(triangles: Integers, copies: int, points: int) -> Integers:
    return (points * np.arange(copies)[:, None, None] + triangles).reshape(-1, 3)
