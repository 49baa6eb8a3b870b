"""Live DOLFINx meshes whose boundaries are found by physical name."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import basix.ufl
import numpy as np
import numpy.typing as npt
import ufl
from dolfinx import graph, io, mesh
from mpi4py import MPI

from spon import _compat
from spon.errors import SponError, agree
from spon.fem.arrays import MeshArrays
from spon.fem.geometry import Geometry
from spon.fem.numbering import Numbering
from spon.fem.partition import destinations
from spon.fem.readers import read_arrays
from spon.fem.topology import Topology

__all__ = ["TaggedMesh", "read_mesh"]


class TaggedMesh:
    """A distributed DOLFINx mesh with cell and facet tags by physical name.

    Args:
        arrays: the whole mesh, the same on every rank.
        comm: communicator that the mesh is distributed over.
        shared: whether ranks share the cells at facets between them, as integrals over interior facets
            need it.

    Attributes:
        arrays: the input, which defines the canonical numbering.
        dolfinx: the `dolfinx.mesh.Mesh`.
    """

    def __init__(self, arrays: MeshArrays, comm: MPI.Comm = MPI.COMM_WORLD, shared: bool = True) -> None:
        self.arrays = arrays
        element = basix.ufl.element("Lagrange", arrays.cell_type, arrays.degree, shape=(arrays.gdim,))
        first = comm.rank == 0
        cells = arrays.cells if first else arrays.cells[:0]
        points = arrays.points if first else arrays.points[:0]
        places: Any = (np.empty(0, dtype=np.int32), np.zeros(1, dtype=np.int32))
        if first and comm.size > 1:
            places = destinations(arrays, comm.size, shared)
        self.dolfinx = _compat.create_mesh(comm, cells, points, element, places)
        self._numberings: list[tuple[Any, Numbering]] = []

    @classmethod
    def of(cls, arrays: MeshArrays, live: Any) -> TaggedMesh:
        """Join a live mesh with the arrays that describe its input.

        Args:
            arrays: the whole mesh, the same on every rank.
            live: `dolfinx.mesh.Mesh` whose `original_cell_index` refers to these arrays.
        """
        out = object.__new__(cls)
        out.arrays, out.dolfinx, out._numberings = arrays, live, []
        return out

    @cached_property
    def unshared(self) -> TaggedMesh:
        """The mesh with each cell on one rank alone, as files want it. Collective at the first access."""
        cells = self.dolfinx.topology.index_map(self.arrays.tdim)
        if self.comm.allreduce(cells.num_ghosts) == 0:
            return self
        out = TaggedMesh(self.arrays, self.comm, shared=False)
        out.__dict__ |= {"topology": self.topology, "geometry": self.geometry}
        out._numberings = self._numberings
        return out

    @cached_property
    def facet_tags(self) -> Any:
        """`dolfinx.mesh.MeshTags` of the named facets. Collective at the first access."""
        first = self.comm.rank == 0
        tdim = self.arrays.tdim
        facets = self.arrays.facets if first else self.arrays.facets[:0]
        tags = self.arrays.facet_tags if first else self.arrays.facet_tags[:0]
        entities, values = io.distribute_entity_data(self.dolfinx, tdim - 1, facets, tags)
        self.dolfinx.topology.create_connectivity(tdim - 1, tdim)
        adjacency = graph.adjacencylist(entities)
        return mesh.meshtags_from_entities(
            self.dolfinx, tdim - 1, adjacency, values.astype(np.int32, copy=False)
        )

    @cached_property
    def cell_tags(self) -> Any:
        """`dolfinx.mesh.MeshTags` of the cells in named groups."""
        topology = self.dolfinx.topology
        index_map = topology.index_map(topology.dim)
        count = index_map.size_local + index_map.num_ghosts
        values = self.arrays.cell_tags[topology.original_cell_index[:count]]
        tagged = np.flatnonzero(values >= 0).astype(np.int32)
        return mesh.meshtags(self.dolfinx, topology.dim, tagged, values[tagged])

    @cached_property
    def topology(self) -> Topology:
        """Edges and faces of the input mesh."""
        return Topology(self.arrays)

    @cached_property
    def geometry(self) -> Geometry:
        """Coordinate maps of the input mesh."""
        return Geometry(self.arrays)

    def numbering(self, element: Any) -> Numbering:
        """Return the canonical DoFs of a `basix` element, made once.

        Args:
            element: not blocked.
        """
        for known, numbering in self._numberings:
            if known == element:
                return numbering
        self._numberings.append((element, Numbering(self.topology, element)))
        return self._numberings[-1][1]

    @property
    def comm(self) -> MPI.Comm:
        """Communicator that the mesh is distributed over."""
        return self.dolfinx.comm

    def tag(self, boundary: str) -> int:
        """Return the tag of a named boundary.

        Raises:
            SponError: there is no such name, or no facet bears it.
        """
        names = self.arrays.facet_names
        if boundary not in names:
            allowed = ", ".join(f"'{n}'" for n in names) or "none"
            raise SponError(f"boundary '{boundary}' not found in {self.arrays.source}; it has: {allowed}")
        if not (self.arrays.facet_tags == names[boundary]).any():
            raise SponError(f"boundary '{boundary}' of {self.arrays.source} has no facets")
        return names[boundary]

    def facets(self, boundary: str) -> npt.NDArray[np.int32]:
        """Return this rank's facets of a named boundary, local numbers."""
        found: npt.NDArray[np.int32] = self.facet_tags.find(self.tag(boundary))
        return found

    @cached_property
    def _interior(self) -> Any:
        return ufl.Measure("dx", domain=self.dolfinx, subdomain_data=self.cell_tags)

    def dx(self, group: str) -> Any:
        """Return the UFL measure of a named group of cells.

        Raises:
            SponError: there is no such group, or no cell is in it.
        """
        self.arrays.cells_named(group)
        return self._interior(self.arrays.cell_names[group])

    @cached_property
    def _exterior(self) -> Any:
        return ufl.Measure("ds", domain=self.dolfinx, subdomain_data=self.facet_tags)

    def ds(self, boundary: str) -> Any:
        """Return the UFL measure of a named exterior boundary."""
        return self._exterior(self.tag(boundary))


def read_mesh(path: str | Path, comm: MPI.Comm = MPI.COMM_WORLD, group: MPI.Comm | None = None) -> TaggedMesh:
    """Read a mesh file once and distribute it. Collective over `comm`.

    Args:
        path: `.msh` (2.2 or 4.1), `.geo`, which gmsh meshes first, or what meshio reads: `.xdmf`, `.vtu`, ….
        comm: all the ranks that want the mesh; its rank 0 reads.
        group: the ranks that share one mesh, a part of `comm`. Default: `comm`. With
            `MPI.COMM_SELF` every rank gets a whole copy, to work on samples of its own.

    Raises:
        SponError: on all ranks: no such file, unknown format, no physical groups, points that belong to
            no cell (but in gmsh's files), ….
    """
    arrays = None
    with agree(comm):
        if comm.rank == 0:
            arrays = read_arrays(path)
    return TaggedMesh(comm.bcast(arrays, root=0), comm if group is None else group)
