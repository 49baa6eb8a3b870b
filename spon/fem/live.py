"""Meshes that a DOLFINx script already has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from dolfinx import mesh as dmesh

from spon import _compat
from spon.errors import SponError, agree
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.mesh import TaggedMesh

__all__ = ["from_dolfinx"]

Integers = npt.NDArray[np.int64]
Marker = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.bool_]]


def from_dolfinx(
    mesh: Any,
    boundaries: Mapping[str, int | Marker] | None = None,
    facet_tags: Any = None,
    cells: Mapping[str, int] | None = None,
    cell_tags: Any = None,
) -> TaggedMesh:
    """Use the live mesh of a DOLFINx script, with names for its boundaries. Collective.

    The mesh stays what it is: spaces and functions on it go on working. Its canonical numbering follows the
    order in which cells and nodes were given to DOLFINx (`original_cell_index`, `input_global_indices`).

    Args:
        mesh: `dolfinx.mesh.Mesh` of triangles, quadrilaterals, tetrahedra or hexahedra, of first or second
            order.
        boundaries: for each name a tag in `facet_tags`, or a function of points (3, n) that is true on
            the boundary, as for `dolfinx.mesh.locate_entities_boundary`. Default: each tag, named by its
            number.
        facet_tags: `dolfinx.mesh.MeshTags` of facets.
        cells: for each name a tag in `cell_tags`; default: each tag, named by its number.
        cell_tags: `dolfinx.mesh.MeshTags` of cells.

    Raises:
        SponError: on all ranks: another kind of cell, a tag without `facet_tags`, a boundary without
            facets, facets in two boundaries, a mesh whose input order is not known.
    """
    kind = mesh.topology.cell_name()
    if kind not in reference.CELL_TYPES:
        raise SponError(f"cells are {kind}; allowed: {', '.join(reference.CELL_TYPES)}")
    comm = mesh.comm
    names = dict(boundaries or {})
    if any(not callable(value) for value in names.values()) and facet_tags is None:
        raise SponError(
            "boundaries are given by tags, but no facet_tags; allowed: both, or functions of points"
        )
    nodes, owned = _input_cells(mesh)
    facets, tags = _tagged_facets(mesh, names, facet_tags)
    corners = _facet_nodes(mesh, facets)
    own_cells = np.full(len(nodes), -1, dtype=np.int32)
    if cell_tags is not None:
        inside = cell_tags.indices < len(nodes)
        own_cells[cell_tags.indices[inside]] = cell_tags.values[inside]
    geometry = mesh.geometry
    points = (np.asarray(geometry.input_global_indices), geometry.x[:, : geometry.dim])
    parts = comm.allgather((owned, nodes, own_cells, corners, tags, *points))
    original, cell_nodes, values, facet_nodes, facet_values, number, x = (
        np.concatenate(p) for p in zip(*parts, strict=True)
    )
    with agree(comm):
        if not np.array_equal(np.sort(original), np.arange(len(original))):
            raise SponError("the mesh does not know the order of its input cells (original_cell_index)")
        order = np.argsort(original)
        used, cell_numbers = np.unique(cell_nodes[order], return_inverse=True)
        first = np.unique(number, return_index=True)
        x = x[first[1][np.searchsorted(first[0], used)]]
        facet_numbers = np.searchsorted(used, facet_nodes)
        along = np.lexsort((*np.sort(facet_numbers, axis=1).T, facet_values))
        arrays = MeshArrays(
            np.ascontiguousarray(x),
            cell_numbers.reshape(cell_nodes.shape).astype(np.int64),
            kind,
            values[order],
            facet_numbers[along],
            facet_values[along].astype(np.int32),
            _named(cells, values[values >= 0]),
            {n: k + 1 for k, n in enumerate(names)} if names else _named(None, facet_values),
            f"DOLFINx mesh '{mesh.name}'",
        )
        for name, tag in arrays.facet_names.items():
            if not (arrays.facet_tags == tag).any():
                raise SponError(f"boundary '{name}' has no facets in the mesh")
    return TaggedMesh.of(arrays, mesh)


def _named(names: Mapping[str, int] | None, tags: Any) -> dict[str, int]:
    return dict(names) if names else {str(tag): int(tag) for tag in np.unique(tags)}


def _input_cells(mesh: Any) -> tuple[Integers, Integers]:
    """Return the input numbers of the nodes of this rank's own cells, and of the cells."""
    count = mesh.topology.index_map(mesh.topology.dim).size_local
    dofmap = np.asarray(_compat.geometry_dofmap(mesh))[:count]
    nodes = np.asarray(mesh.geometry.input_global_indices, dtype=np.int64)[dofmap]
    return nodes, np.asarray(mesh.topology.original_cell_index[:count], dtype=np.int64)


def _tagged_facets(
    mesh: Any, names: Mapping[str, int | Marker], facet_tags: Any
) -> tuple[npt.NDArray[np.int32], Integers]:
    """Return this rank's own tagged facets, and their tags: 1, 2, … in the order of the names."""
    dim = mesh.topology.dim - 1
    mesh.topology.create_connectivity(dim, dim + 1)
    mesh.topology.create_connectivity(dim + 1, dim)
    found, tags = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for number, value in enumerate(names.values()):
        if callable(value):
            found.append(dmesh.locate_entities_boundary(mesh, dim, value))
        else:
            found.append(facet_tags.find(int(value)))
        tags.append(np.full(len(found[-1]), number + 1))
    if not names and facet_tags is not None:
        found.append(facet_tags.indices)
        tags.append(facet_tags.values.astype(np.int64))
    facets, values = np.concatenate(found), np.concatenate(tags)
    mine = facets < mesh.topology.index_map(dim).size_local
    return facets[mine], values[mine]


def _facet_nodes(mesh: Any, facets: npt.NDArray[np.int32]) -> Integers:
    """Return the input numbers of the corners of facets, in the order of a cell that they belong to."""
    tdim = mesh.topology.dim
    to_cells = mesh.topology.connectivity(tdim - 1, tdim)
    corners = reference.facet_corners(mesh.topology.cell_name())
    cells = to_cells.array[to_cells.offsets[facets]]
    width = len(corners)
    around = mesh.topology.connectivity(tdim, tdim - 1).array.reshape(-1, width)[cells]
    local = (around == facets[:, None]).argmax(axis=1)
    dofmap = np.asarray(_compat.geometry_dofmap(mesh))[cells]
    nodes = np.take_along_axis(dofmap, corners[local], axis=1)
    return np.asarray(mesh.geometry.input_global_indices, dtype=np.int64)[nodes]
