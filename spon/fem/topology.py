"""Edges and faces of an input mesh, numbered by its vertices alone."""

from __future__ import annotations

from functools import cached_property

import basix
import numpy as np
import numpy.typing as npt

from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.rows import row_keys, unique_rows

__all__ = ["Topology", "unique_rows"]

Integers = npt.NDArray[np.int64]

REFERENCE = {name: basix.CellType[name] for name in reference.CELL_TYPES}


class Topology:
    """Vertices, edges, faces and cells of a mesh, in an order that follows from the input alone.

    Vertices keep the order of the input points; edges and faces are in lexicographic order of their
    sorted vertices.

    Args:
        arrays: input mesh.

    Attributes:
        reference: `basix.CellType` of the cells.
        vertex_points: (vertices,) point of each vertex.
        cell_vertices: (cells, vertices per cell) vertex numbers in DOLFINx's order.
    """

    def __init__(self, arrays: MeshArrays) -> None:
        self.arrays = arrays
        self.reference = REFERENCE[arrays.cell_type]
        self.local: list[list[list[int]]] = reference.topology(arrays.cell_type)
        corners = arrays.cells[:, : len(self.local[0])]
        used = np.zeros(len(arrays.points), dtype=bool)
        used[corners] = True
        self.vertex_points: Integers = np.flatnonzero(used)
        self.vertex_number = np.cumsum(used) - 1
        self.cell_vertices: Integers = self.vertex_number[corners]
        self._entities: dict[int, tuple[Integers, Integers]] = {}

    @property
    def tdim(self) -> int:
        """Topological dimension."""
        return len(self.local) - 1

    def entities(self, dim: int) -> tuple[Integers, Integers]:
        """Return the entities of a dimension.

        Returns:
            (entities, vertices) sorted vertex numbers, and (cells, entities per cell) numbers.
        """
        if dim not in self._entities:
            cells = self.cell_vertices
            if dim == self.tdim:
                found = (np.sort(cells, axis=1), np.arange(len(cells))[:, None])
            elif dim == 0:
                found = (np.arange(len(self.vertex_points))[:, None], cells)
            else:
                local = np.array(self.local[dim])
                rows = np.sort(cells[:, local].reshape(-1, local.shape[1]), axis=1)
                unique, inverse = unique_rows(rows)
                found = (unique, inverse.reshape(len(cells), -1))
            self._entities[dim] = found
        return self._entities[dim]

    def find(self, dim: int, vertices: Integers) -> Integers:
        """Return the number of each entity given by vertex numbers, -1 where there is none.

        Args:
            dim: of the entities.
            vertices: (n, vertices per entity), in any order.
        """
        known, _ = self.entities(dim)
        wanted = np.sort(vertices, axis=1)
        if len(wanted) == 0:
            return np.empty(0, dtype=np.int64)
        keys = row_keys(np.concatenate([known, wanted]))
        of_known, of_wanted = keys[: len(known)], keys[len(known) :]
        order = np.argsort(of_known, kind="stable")  # sorted already, but for cells
        place = order[np.minimum(np.searchsorted(of_known, of_wanted, sorter=order), len(order) - 1)]
        return np.where(of_known[place] == of_wanted, place, -1)

    @cached_property
    def facet_cells(self) -> Integers:
        """(facets,) number of cells of each facet: 1 on the boundary, 2 inside."""
        facets, cell_facets = self.entities(self.tdim - 1)
        return np.bincount(cell_facets.ravel(), minlength=len(facets))

    def facet_sides(self, facets: Integers) -> tuple[Integers, Integers]:
        """Return the last cell that has a facet, (n,), and the facet's number in that cell, (n,)."""
        known, cell_facets = self.entities(self.tdim - 1)
        place = np.empty(len(known), dtype=np.int64)
        place[cell_facets.reshape(-1)] = np.arange(cell_facets.size)
        cells, local = np.divmod(place[facets], cell_facets.shape[1])
        return cells, local

    @cached_property
    def named_facets(self) -> Integers:
        """(tagged facets,) facet number of each tagged facet of the input."""
        return self.find(self.tdim - 1, self.vertex_number[self.arrays.facets])

    def facets(self, boundary: str) -> Integers:
        """Return the facets of a named boundary."""
        tag = self.arrays.facet_names[boundary]
        return np.unique(self.named_facets[self.arrays.facet_tags == tag])

    def vertices(self, boundary: str) -> Integers:
        """Return the vertices of a named boundary, sorted."""
        tag = self.arrays.facet_names[boundary]
        return np.unique(self.vertex_number[self.arrays.facets[self.arrays.facet_tags == tag]])

    def closure(self, facets: Integers, dim: int) -> Integers:
        """Return the entities of a dimension that lie on facets, sorted.

        Args:
            facets: facet numbers.
            dim: < tdim.
        """
        if dim == self.tdim - 1:
            return np.unique(facets)
        _, cell_facets = self.entities(self.tdim - 1)
        _, cell_entities = self.entities(dim)
        chosen = np.zeros(len(self.entities(self.tdim - 1)[0]), dtype=bool)
        chosen[facets] = True
        out = np.zeros(len(self.entities(dim)[0]), dtype=bool)
        for number, corners in enumerate(self.local[self.tdim - 1]):
            inside = np.array([e for e, v in enumerate(self.local[dim]) if set(v) <= set(corners)])
            rows = np.flatnonzero(chosen[cell_facets[:, number]])
            out[cell_entities[np.ix_(rows, inside)]] = True
        return np.flatnonzero(out)
