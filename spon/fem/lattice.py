"""The nodes of the children of all cells, each numbered once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.topology import Topology

__all__ = ["Lattice"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Lattice:
    """The points of a mesh with twice as many intervals on each edge as its own nodes make.

    The coarse points come first; the new ones on edges, in faces and in cells follow entity by entity, on
    each in an order that its vertices' numbers alone decide.

    Args:
        arrays: mesh.
        topology: of the mesh.

    Attributes:
        at: (nodes, tdim) of the lattice on the reference cell.
        numbers: (cells, nodes) number of each.
        size: number of points.
    """

    def __init__(self, arrays: MeshArrays, topology: Topology) -> None:
        self.arrays = arrays
        self.topology = topology
        kind, n = arrays.cell_type, 2 * arrays.degree
        self._n = n
        self.at = reference.lattice(kind, n)
        own = self.find(reference.nodes(kind, arrays.degree))
        self.numbers: Integers = np.empty((len(arrays.cells), len(self.at)), dtype=np.int64)
        self.numbers[:, own] = arrays.cells
        self.size = len(arrays.points)
        new = np.ones(len(self.at), dtype=bool)
        new[own] = False
        shape = reference.tabulate(kind, 1, self.at)[0]
        weights = np.rint(shape * n**arrays.tdim).astype(np.int64)  # of the corners
        support = [frozenset(int(k) for k in np.flatnonzero(w)) for w in weights]
        for dim in range(1, arrays.tdim + 1):
            self._number(dim, weights, [s if k else frozenset() for s, k in zip(support, new, strict=True)])

    def _number(self, dim: int, weights: Integers, support: list[frozenset[int]]) -> None:
        """Number the new nodes inside the entities of a dimension."""
        entities, cell_entities = self.topology.entities(dim)
        local = self.topology.local[dim]
        inside = [[j for j, s in enumerate(support) if s == set(corners)] for corners in local]
        if not inside[0]:
            return
        # what tells the nodes of an entity apart is the weights of its vertices, taken in their order
        powers = (int(weights.max()) + 1) ** np.arange(len(local[0]))
        keys = weights[np.ix_(inside[0], local[0])] @ powers
        order = np.argsort(keys)
        for e, corners in enumerate(local):
            which: Integers = np.arange(len(keys))[:, None]
            if dim < self.arrays.tdim and len(keys) > 1:
                turn = _turn(self.topology.cell_vertices[:, corners])
                places = weights[np.ix_(inside[e], corners)][:, turn] @ powers  # (nodes, cells)
                which = order[np.searchsorted(keys, places, sorter=order)]
            for j, place in zip(inside[e], which, strict=True):
                self.numbers[:, j] = self.size + cell_entities[:, e] * len(keys) + place
        self.size += len(entities) * len(keys)

    def find(self, X: Floats) -> Integers:
        """Return the lattice nodes at reference points (…, tdim) that are nodes, (…,)."""
        gap = np.abs(X.reshape(-1, 1, X.shape[-1]) - self.at).max(axis=2)
        return np.asarray(gap.argmin(axis=1).reshape(X.shape[:-1]), dtype=np.int64)

    def middles(self, dim: int) -> Integers:
        """Return the number of the node in the middle of each entity of a dimension, (entities,)."""
        entities, cell_entities = self.topology.entities(dim)
        corners = reference.nodes(self.arrays.cell_type, 1)[self.topology.local[dim]]
        out = np.empty(len(entities), dtype=np.int64)
        out[cell_entities] = self.numbers[:, self.find(corners.mean(axis=1))]
        return out

    def points(self) -> Floats:
        """Return the points, (size, gdim): new ones where the map of a cell that has them puts them."""
        arrays = self.arrays
        out = np.empty((self.size, arrays.gdim))
        n = len(arrays.points)
        x = np.ascontiguousarray(arrays.points[arrays.cells].transpose(1, 0, 2)).reshape(
            arrays.cells.shape[1], -1
        )
        phi = reference.tabulate(arrays.cell_type, arrays.degree, self.at)[0]
        phi = np.rint(512 * phi) / 512  # at these points the basis has such values, to the last bit
        for j in np.flatnonzero(self.numbers[0] >= n):
            out[self.numbers[:, j]] = (phi[j] @ x).reshape(-1, arrays.gdim)
        out[:n] = arrays.points
        return out


def _turn(vertices: Integers) -> Integers:
    """Return the order of the corners of an entity that its vertices' numbers decide, (cells, corners).

    It is a symmetry of the entity: quadrilaterals start at the lowest vertex, its lower neighbour follows.
    """
    if vertices.shape[1] < 4:
        return np.argsort(vertices, axis=1)
    low = vertices.argmin(axis=1)
    row = np.arange(len(vertices))
    swap = vertices[row, low ^ 1] > vertices[row, low ^ 2]
    return np.stack([low, low ^ np.where(swap, 2, 1), low ^ np.where(swap, 1, 2), low ^ 3], axis=1)
