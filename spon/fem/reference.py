"""Reference cells in DOLFINx's order of corners, facets and nodes; all of it is basix's."""

from __future__ import annotations

from functools import lru_cache

import basix
import numpy as np
import numpy.typing as npt

__all__ = [
    "CELL_TYPES",
    "FACET_TYPES",
    "NODES",
    "determinants",
    "edge_corners",
    "element",
    "facet_corners",
    "facet_frames",
    "facet_nodes",
    "jacobians",
    "lattice",
    "nodes",
    "quadrature",
    "tabulate",
    "topology",
]

CELL_TYPES = ("triangle", "quadrilateral", "tetrahedron", "hexahedron")
FACET_TYPES = {
    "triangle": "interval",
    "quadrilateral": "interval",
    "tetrahedron": "triangle",
    "hexahedron": "quadrilateral",
}
NODES = {"triangle": (3, 6), "quadrilateral": (4, 9), "tetrahedron": (4, 10), "hexahedron": (8, 27)}

Array = npt.NDArray[np.float64]


@lru_cache
def element(cell_type: str, degree: int) -> basix.finite_element.FiniteElement:
    """Return the Lagrange element that DOLFINx makes coordinate elements of."""
    variant = basix.LagrangeVariant.gll_warped
    return basix.create_element(basix.ElementFamily.P, basix.CellType[cell_type], degree, variant)


@lru_cache
def nodes(cell_type: str, degree: int) -> Array:
    """Return the nodes of the Lagrange element, (nodes, tdim)."""
    return np.asarray(element(cell_type, degree).points)


@lru_cache
def facet_corners(cell_type: str) -> npt.NDArray[np.int64]:
    """Return the corners of each facet of a cell, (facets, corners of a facet)."""
    return np.array(topology(cell_type)[-2], dtype=np.int64)


@lru_cache
def topology(cell_type: str) -> list[list[list[int]]]:
    """Return the corners of each entity of each dimension."""
    found: list[list[list[int]]] = basix.topology(basix.CellType[cell_type])
    return found


@lru_cache
def edge_corners(cell_type: str) -> npt.NDArray[np.int64]:
    """Return the corners of each edge of a cell, (edges, 2)."""
    return np.array(topology(cell_type)[1], dtype=np.int64)


@lru_cache
def facet_nodes(cell_type: str, degree: int) -> npt.NDArray[np.int64]:
    """Return the nodes on each facet of a cell in the facet's own order, (facets, nodes of a facet)."""
    origins, matrices = facet_frames(cell_type)
    on_facet = nodes(FACET_TYPES[cell_type], degree)
    at = origins[:, None] + np.einsum("fij,qj->fqi", matrices, on_facet)
    gap = np.abs(at[:, :, None] - nodes(cell_type, degree)).max(axis=3)
    return np.asarray(gap.argmin(axis=2), dtype=np.int64)


@lru_cache
def facet_frames(cell_type: str) -> tuple[Array, Array]:
    """Return the affine maps of the reference facet onto the facets of a cell.

    Returns:
        Origins (facets, tdim) and matrices (facets, tdim, tdim - 1).
    """
    corner = nodes(cell_type, 1)[facet_corners(cell_type)]
    tdim = corner.shape[2]
    return corner[:, 0], (corner[:, 1:tdim] - corner[:, :1]).transpose(0, 2, 1)


def lattice(cell_type: str, n: int) -> Array:
    """Return the points of an equispaced lattice with n intervals on each edge, corners included."""
    return np.asarray(basix.create_lattice(basix.CellType[cell_type], n, basix.LatticeType.equispaced, True))


def quadrature(cell_type: str, degree: int) -> tuple[Array, Array]:
    """Return quadrature points (points, tdim) and weights (points,)."""
    points, weights = basix.make_quadrature(basix.CellType[cell_type], degree)
    return np.asarray(points), np.asarray(weights)


def tabulate(cell_type: str, degree: int, points: Array) -> tuple[Array, Array]:
    """Evaluate the Lagrange basis.

    Returns:
        Values (points, nodes) and gradients (points, nodes, tdim).
    """
    table = np.asarray(element(cell_type, degree).tabulate(1, points))[..., 0]
    return table[0], table[1:].transpose(1, 2, 0)


def jacobians(x: Array, gradients: Array) -> Array:
    """Evaluate the Jacobians of cells at one reference point.

    Args:
        x: (cells, gdim, nodes), the coordinates of the nodes of each cell.
        gradients: (nodes, tdim) of the basis at the point.

    Returns:
        (cells, gdim, tdim).
    """
    cells, gdim, n = x.shape
    return (x.reshape(-1, n) @ gradients).reshape(cells, gdim, gradients.shape[1])


def determinants(J: Array) -> Array:
    """Return the determinants of 2×2 or 3×3 matrices, (…,)."""
    if J.shape[-1] == 2:
        return np.asarray(J[..., 0, 0] * J[..., 1, 1] - J[..., 0, 1] * J[..., 1, 0])
    return np.einsum("...i,...i->...", J[..., 0], np.cross(J[..., 1], J[..., 2]))
