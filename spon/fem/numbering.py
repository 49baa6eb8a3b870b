"""Canonical numbers and orientation of the DoFs of one element on an input mesh."""

from __future__ import annotations

from typing import Any

import basix
import numpy as np
import numpy.typing as npt

from spon.fem.topology import Topology

__all__ = ["Numbering", "Orientation", "orientations"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Orientation:
    """How the basis functions of an element turn with the vertex order of a cell.

    DOLFINx orients edges and faces from lower to higher vertex number. On a cell the basis is T φ̂
    with the reference basis φ̂ and a matrix T that is a block for each edge and face, depending on
    the order of its vertices alone (Scroggs, Dokken, Richardson & Wells 2022, "Construction of
    arbitrary order finite element degree-of-freedom maps on polygonal and polyhedral cell meshes").

    Args:
        element: `basix` element, not blocked.
    """

    def __init__(self, element: Any) -> None:
        self.element = element
        self.entity_dofs: list[list[list[int]]] = element.entity_dofs
        self.tdim = len(self.entity_dofs) - 1
        self.permutes = bool(element.dof_transformations_are_permutations)
        self.trivial = bool(element.dof_transformations_are_identity)
        faces = len(self.entity_dofs[2]) if self.tdim == 3 else 0
        self._tables: dict[int, Floats] = {}
        for dim in range(1, self.tdim):
            dofs = self.entity_dofs[dim][0]
            if not dofs:
                continue
            shift = 3 * faces if dim == 1 else 0
            states = [0, 1] if dim == 1 else list(range(8))
            corners = len(basix.topology(element.cell_type)[dim][0])
            states = [s for s in states if dim == 1 or (s >> 1) < corners]
            self._tables[dim] = np.stack([self._block(s << shift, dofs) for s in states])

    def _block(self, cell_info: int, dofs: list[int]) -> Floats:
        n = self.element.dim
        T = np.eye(n).ravel()
        self.element.T_apply(T, n, cell_info)
        return np.ascontiguousarray(T.reshape(n, n)[np.ix_(dofs, dofs)])

    def blocks(self, dim: int, states: Integers) -> Floats | None:
        """Return T restricted to an entity, (…, d, d) for states (…,); None where it is always 1."""
        if self.trivial or dim not in self._tables:
            return None
        return self._tables[dim][states]

    def permutation(self, dim: int) -> Integers | None:
        """Return (states, d): position p(j) of the reference function that is function j."""
        if self.trivial or dim not in self._tables:
            return None
        return np.asarray(self._tables[dim].argmax(axis=2))


def orientations(topology: Topology, dim: int, keys: Integers, cells: Integers | slice) -> Integers:
    """Return the state of each edge or face of cells: reflection + 2 · rotations.

    Args:
        topology: of the mesh.
        dim: 1 for edges, 2 for faces of solids.
        keys: (vertices,) numbers that order the vertices.
        cells: which.

    Returns:
        (cells, entities per cell).
    """
    local = np.array(topology.local[dim])
    values = keys[topology.cell_vertices[cells][:, local]]  # (cells, entity, vertex)
    if dim == 1:
        return (values[..., 0] > values[..., 1]).astype(np.int64)
    lowest = values.argmin(axis=-1)
    corners = local.shape[1]
    if corners == 3:
        position, before, after = np.array([0, 1, 2]), np.array([2, 0, 1]), np.array([1, 2, 0])
    else:  # tensor order of vertices: 0 1 / 2 3
        position, before, after = np.array([0, 1, 3, 2]), np.array([2, 0, 3, 1]), np.array([1, 3, 0, 2])
    first = np.take_along_axis(values, before[lowest][..., None], -1)[..., 0]
    second = np.take_along_axis(values, after[lowest][..., None], -1)[..., 0]
    reflected = second > first
    rotations = np.where(reflected, position[lowest], (corners - position[lowest]) % corners)
    return reflected + 2 * rotations


class Numbering:
    """DoFs of a scalar or vector-valued basix element in canonical order: vertices, edges, faces, cells.

    Args:
        topology: of the input mesh.
        element: `basix` element, not blocked.
        keys: (vertices,) numbers that order the vertices; default: their own.
        groups: for each dimension, a number for each entity, where several entities share DoFs
            (periodic meshes); default: each has its own.

    Attributes:
        dofmap: (cells, DoFs per cell) canonical number of the DoF that belongs to reference function
            i, up to the orientation T where that is not a permutation.
        size: number of DoFs.
    """

    def __init__(
        self,
        topology: Topology,
        element: Any,
        keys: Integers | None = None,
        groups: dict[int, Integers] | None = None,
    ) -> None:
        self.topology, self.element = topology, element
        self.orientation = Orientation(element)
        self.keys = np.arange(len(topology.vertex_points)) if keys is None else keys
        entity_dofs = self.orientation.entity_dofs
        cells = len(topology.cell_vertices)
        self.dofmap: Integers = np.empty((cells, element.dim), dtype=np.int64)
        self.offsets: list[int] = []
        self.size = 0
        for dim, per_entity in enumerate(entity_dofs):
            width = len(per_entity[0])
            self.offsets.append(self.size)
            if width == 0:
                continue
            _, numbers = topology.entities(dim)
            count = len(topology.entities(dim)[0])
            if groups is not None and dim in groups:
                numbers = groups[dim][numbers]
                count = int(groups[dim].max(initial=-1)) + 1
            permutation = self.orientation.permutation(dim) if self.orientation.permutes else None
            states = None if permutation is None else self.states(dim)
            for entity, dofs in enumerate(per_entity):
                raw = self.size + width * numbers[:, entity, None] + np.arange(width)
                if permutation is None or states is None:
                    self.dofmap[:, dofs] = raw
                else:
                    columns = np.array(dofs)[permutation[states[:, entity]]]
                    np.put_along_axis(self.dofmap, columns, raw, axis=1)
            self.size += width * count

    def states(self, dim: int, cells: Integers | slice = slice(None)) -> Integers:
        """Return the orientation of the entities of cells, (cells, entities per cell)."""
        return orientations(self.topology, dim, self.keys, cells)

    @property
    def turns(self) -> bool:
        """Whether a matrix T is needed beside the DoF map."""
        return not (self.orientation.permutes or self.orientation.trivial)

    def entity_blocks(self, cells: Integers | slice = slice(None)) -> list[tuple[list[int], Floats]]:
        """Return, for each edge and face with DoFs, its local DoFs and T there, (cells, d, d)."""
        if not self.turns:
            return []
        out = []
        for dim in range(1, self.orientation.tdim):
            if not self.orientation.entity_dofs[dim][0]:
                continue
            states = self.states(dim, cells)
            for entity, dofs in enumerate(self.orientation.entity_dofs[dim]):
                blocks = self.orientation.blocks(dim, states[:, entity])
                assert blocks is not None
                out.append((dofs, blocks))
        return out

    def on_entities(self, dim: int, numbers: Integers) -> Integers:
        """Return the DoFs that belong to entities of a dimension, without their closure."""
        width = len(self.orientation.entity_dofs[dim][0])
        dofs = self.offsets[dim] + width * np.asarray(numbers)[:, None] + np.arange(width)
        return np.asarray(dofs.ravel())

    def on_facets(self, facets: Integers) -> Integers:
        """Return the DoFs in the closure of facets, sorted."""
        dims = [dim for dim in range(self.topology.tdim) if self.orientation.entity_dofs[dim][0]]
        parts = [self.on_entities(dim, self.topology.closure(facets, dim)) for dim in dims]
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *parts]))

    def on_boundary(self, name: str) -> Integers:
        """Return the DoFs on a named boundary, sorted."""
        if any(self.orientation.entity_dofs[dim][0] for dim in range(1, self.topology.tdim)):
            return self.on_facets(self.topology.facets(name))
        return np.sort(self.on_entities(0, self.topology.vertices(name)))  # no need to number facets

    def owners(self) -> tuple[Integers, Integers]:
        """Return (size,) cell and (size,) local position of the first occurrence of each DoF."""
        cells, n = self.dofmap.shape
        first = np.empty(self.size, dtype=np.int64)
        first[self.dofmap.ravel()[::-1]] = np.arange(cells * n)[::-1]
        return first // n, first % n
