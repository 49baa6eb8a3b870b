"""Uniform refinement of input meshes.

Refinement works on the plain arrays, before DOLFINx renumbers anything: parents, tags and the
canonical numbering follow from the construction and are the same on any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.errors import SponError
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.lattice import Lattice
from spon.fem.topology import Topology

__all__ = ["Nesting", "children", "nodal_prolongation", "refine"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Nesting:
    """How the cells of a refined mesh lie in those of the coarse one: X_parent = origin + matrix @ X_child.

    Attributes:
        parents: (fine cells,) coarse cell of each; the children of a cell follow each other.
        kinds: (fine cells,) which of the maps.
        origins: (kinds, tdim).
        matrices: (kinds, tdim, tdim).
    """

    parents: Integers
    kinds: Integers
    origins: Floats
    matrices: Floats

    def locate(self, cells: Integers, X: Floats) -> tuple[Integers, Floats]:
        """Return the coarse cells (n,) and reference points (n, tdim) of points given on fine cells.

        Args:
            cells: (n,) of the fine mesh.
            X: (n, tdim).
        """
        kinds = self.kinds[cells]
        return self.parents[cells], self.origins[kinds] + np.einsum("nij,nj->ni", self.matrices[kinds], X)


def children(cell_type: str) -> tuple[Floats, Floats, Integers]:
    """Return the affine maps of the children of a reference cell.

    A child at each corner is the cell shrunk to half its size; those of a triangle leave a triangle turned by
    180°, those of a tetrahedron an octahedron, which any of its three diagonals cuts into four (Bey 1995,
    "Tetrahedral grid refinement", Computing 55).

    Returns:
        Origins (kinds, tdim), matrices (kinds, tdim, tdim), and the kinds of children in each way of cutting,
        (ways, children): one way, three for a tetrahedron.
    """
    corners = reference.nodes(cell_type, 1)
    n, tdim = corners.shape
    origins, matrices = corners / 2, np.tile(np.eye(tdim) / 2, (n, 1, 1))
    if cell_type == "triangle":
        origins, matrices = (
            np.concatenate([origins, [[0.5, 0.5]]]),
            np.concatenate([matrices, [-np.eye(2) / 2]]),
        )
    if cell_type != "tetrahedron":
        return origins, matrices, np.arange(len(origins))[None]
    # a pair of opposite edges for each diagonal between their midpoints; the others go round it
    pairs = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    pieces = []
    for k, (one, other) in enumerate(pairs):
        (a, c), (b, d) = pairs[k - 2], pairs[k - 1]
        rim = [corners[list(e)].mean(axis=0) for e in (a, b, c, d)]
        ends = [corners[list(e)].mean(axis=0) for e in (one, other)]
        for i in range(4):
            tetrahedron = np.array([*ends, rim[i], rim[(i + 1) % 4]])
            matrix = (tetrahedron[1:] - tetrahedron[0]).T
            pieces.append((tetrahedron[0], matrix if np.linalg.det(matrix) > 0 else matrix[:, [0, 2, 1]]))
    origins = np.concatenate([origins, [p[0] for p in pieces]])
    matrices = np.concatenate([matrices, [p[1] for p in pieces]])
    return origins, matrices, np.array([[0, 1, 2, 3, *range(4 + 4 * k, 8 + 4 * k)] for k in range(3)])


def refine(coarse: MeshArrays) -> tuple[MeshArrays, Nesting]:
    """Split every triangle and quadrilateral into four, every tetrahedron and hexahedron into eight.

    The coarse points keep their numbers; new ones follow on edges, in faces and in cells, in the order of
    `Topology.entities`. Tags are inherited. The map of a child is the map of its parent after an affine map
    of reference cells, so that coarse Lagrange functions are fine ones too: curved cells keep their shape,
    and straight ones the coarse polygon. The octahedron in a tetrahedron is cut along its shortest diagonal,
    the first of those that are equal to 1e-9.

    Returns:
        The fine mesh, and where its cells lie in the coarse one.
    """
    topology = Topology(coarse)
    lattice = Lattice(coarse, topology)
    origins, matrices, ways = children(coarse.cell_type)
    kinds = ways[_way(coarse, lattice)]  # (coarse cells, children)
    own = reference.nodes(coarse.cell_type, coarse.degree)
    at = origins[:, None] + np.einsum("kij,qj->kqi", matrices, own)  # (kinds, nodes, tdim)
    table = lattice.find(at)
    cells = np.empty((*kinds.shape, len(own)), dtype=np.int64)
    for child in range(kinds.shape[1]):
        if len(ways) == 1:
            cells[:, child] = lattice.numbers[:, table[kinds[0, child]]]
        else:
            cells[:, child] = np.take_along_axis(lattice.numbers, table[kinds[:, child]], axis=1)
    facets, per = _facets(coarse, topology, lattice)
    fine = replace(
        coarse,
        points=lattice.points(),
        cells=cells.reshape(-1, len(own)),
        cell_tags=np.repeat(coarse.cell_tags, kinds.shape[1]),
        facets=facets,
        facet_tags=np.repeat(coarse.facet_tags, per),
    )
    parents = np.repeat(np.arange(len(kinds)), kinds.shape[1])
    return fine, Nesting(parents, kinds.reshape(-1), origins, matrices)


def _way(coarse: MeshArrays, lattice: Lattice) -> Integers:
    """Return the number of the shortest diagonal of each cell, (cells,)."""
    if coarse.cell_type != "tetrahedron":
        return np.zeros(len(coarse.cells), dtype=np.int64)
    middles = reference.nodes("tetrahedron", 1)[[[[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0, 3], [1, 2]]]].mean(
        axis=2
    )
    phi = reference.tabulate("tetrahedron", coarse.degree, middles.reshape(6, 3))[0].reshape(3, 2, -1)
    across = (phi[:, 0] - phi[:, 1]) @ coarse.points[coarse.cells]  # (cells, diagonals, 3)
    length = np.linalg.norm(across, axis=2)
    return np.asarray((length <= length.min(axis=1, keepdims=True) * (1 + 1e-9)).argmax(axis=1))


def _facets(coarse: MeshArrays, topology: Topology, lattice: Lattice) -> tuple[Integers, int]:
    """Return the corners of the children of the tagged facets, and how many children each has."""
    kind = reference.FACET_TYPES[coarse.cell_type]
    origins, matrices, ways = children(kind)
    per = ways.shape[1]
    if len(coarse.facets) == 0:
        return coarse.facets, per
    # number of the point in the middle of each facet's edges and, on quadrilaterals, of the facet
    vertex = np.full(len(coarse.points), -1, dtype=np.int64)
    vertex[topology.vertex_points] = np.arange(len(topology.vertex_points))
    found = [coarse.facets]
    local = reference.topology(kind)
    for dim in range(1, len(local)):
        if kind == "triangle" and dim == 2:
            continue
        corners = np.array(local[dim])
        entities = topology.find(dim, vertex[coarse.facets][:, corners].reshape(-1, corners.shape[1]))
        found.append(lattice.middles(dim)[entities].reshape(len(coarse.facets), -1))
    numbers = np.concatenate(found, axis=1)  # in the order of second-order nodes
    corner = origins[:, None] + np.einsum("kij,qj->kqi", matrices, reference.nodes(kind, 1))
    gap = np.abs(corner[:, :, None] - reference.nodes(kind, 2)).max(axis=3)
    return numbers[:, gap.argmin(axis=2)].reshape(-1, coarse.facets.shape[1]), per


def nodal_prolongation(coarse: MeshArrays, fine: MeshArrays, nesting: Nesting) -> sp.csr_array:
    """Return the prolongation (fine points, coarse points) of first-order functions on first-order geometry.

    Raises:
        SponError: second-order geometry.
    """
    if coarse.degree != 1:
        raise SponError(f"{coarse.source}: second-order cells; allowed here: first-order ones")
    corners = reference.nodes(coarse.cell_type, 1)
    place = np.empty(len(fine.points), dtype=np.int64)
    place[fine.cells.reshape(-1)[::-1]] = np.arange(fine.cells.size)[::-1]
    cells, corner = np.divmod(place, len(corners))
    parents, X = nesting.locate(cells, corners[corner])
    values = np.rint(8 * reference.tabulate(coarse.cell_type, 1, X)[0]) / 8  # to the last bit
    kept = values != 0
    rows = np.broadcast_to(np.arange(len(place))[:, None], values.shape)[kept]
    shape = (len(place), len(coarse.points))
    return sp.csr_array((values[kept], (rows, coarse.cells[parents][kept])), shape=shape)
