"""Lengths, areas and volumes on the curved cells, and how well they are shaped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.topology import Topology

__all__ = ["QUALITY", "cell_measures", "cell_qualities", "facet_measures"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

QUALITY = {
    "triangle": "mean ratio",
    "tetrahedron": "mean ratio",
    "quadrilateral": "scaled Jacobian",
    "hexahedron": "scaled Jacobian",
}
_FACET_DEGREE = 12  # the length of a curved facet is no polynomial


def cell_measures(arrays: MeshArrays) -> Floats:
    """Return the area or volume of each cell, (cells,), exact for its polynomial map."""
    X, weights = reference.quadrature(arrays.cell_type, arrays.tdim * arrays.degree)
    x = _coordinates(arrays, arrays.cells)
    out = np.zeros(len(x))
    table = reference.tabulate(arrays.cell_type, arrays.degree, X)[1]
    for q, weight in enumerate(weights):
        out += weight * reference.determinants(reference.jacobians(x, table[q]))
    return np.abs(out)


def facet_measures(
    arrays: MeshArrays, facets: Integers | None = None, topology: Topology | None = None
) -> Floats:
    """Return the length or area of facets by quadrature on the curved map.

    Args:
        arrays: mesh.
        facets: numbers of facets in `Topology`; default: the tagged ones, in their order.
        topology: of the mesh, if there is one already.

    Returns:
        (facets,).
    """
    topology = Topology(arrays) if topology is None else topology
    chosen = topology.named_facets if facets is None else facets
    cells, local = topology.facet_sides(chosen)
    nodes = arrays.cells[cells[:, None], reference.facet_nodes(arrays.cell_type, arrays.degree)[local]]
    kind = reference.FACET_TYPES[arrays.cell_type]
    X, weights = reference.quadrature(kind, _FACET_DEGREE if arrays.degree > 1 or arrays.tdim == 3 else 1)
    x = _coordinates(arrays, nodes)
    out = np.zeros(len(x))
    table = reference.tabulate(kind, arrays.degree, X)[1]
    for q, weight in enumerate(weights):
        J = reference.jacobians(x, table[q])
        if arrays.tdim == 2:
            out += weight * np.linalg.norm(J[:, :, 0], axis=1)
        else:
            out += weight * np.linalg.norm(np.cross(J[:, :, 0], J[:, :, 1]), axis=1)
    return out


def cell_qualities(arrays: MeshArrays) -> Floats:
    """Return the quality of each cell, (cells,): 1 is perfect, 0 is degenerate.

    Simplices: the mean ratio d·det(S)^(2/d) / ‖S‖², S the Jacobian of the map from the regular simplex (Knupp
    2001, "Algebraic mesh quality metrics", SIAM J. Sci. Comput. 23). Others: the scaled Jacobian
    det(J) / Π ‖column of J‖ (Knupp 2000, Int. J. Numer. Meth. Engng 48). The smallest value at the corners
    and, of curved cells, on a lattice of three intervals.
    """
    kind, d = arrays.cell_type, arrays.tdim
    x = _coordinates(arrays, arrays.cells)
    at = reference.nodes(kind, 1) if arrays.degree == 1 else reference.lattice(kind, arrays.degree + 1)
    simplex = kind in ("triangle", "tetrahedron")
    if simplex and arrays.degree == 1:
        at = at[:1]  # the Jacobian is constant
    # edges of the regular simplex as columns: the Cholesky factor of their products
    regular = np.linalg.inv(np.linalg.cholesky((np.eye(d) + 1) / 2).T)
    out = np.full(len(x), np.inf)
    for gradients in reference.tabulate(kind, arrays.degree, at)[1]:
        J = reference.jacobians(x, gradients)
        if simplex:
            S = J @ regular
            value = d * np.abs(reference.determinants(S)) ** (2 / d) / np.square(S).sum(axis=(1, 2))
        else:
            value = np.abs(reference.determinants(J)) / np.linalg.norm(J, axis=1).prod(axis=1)
        np.minimum(out, value, out=out)
    return out


def _coordinates(arrays: MeshArrays, nodes: Integers) -> Floats:
    """Return (n, gdim, nodes)."""
    return np.ascontiguousarray(arrays.points[nodes].transpose(0, 2, 1))
