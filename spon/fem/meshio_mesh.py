"""Meshes as meshio has them, with their names as each format can keep them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.meshio_groups import CELL_GROUP, FACET_GROUP, SIDES
from spon.fem.meshio_reader import vtk_order
from spon.fem.topology import Topology

__all__ = ["to_meshio"]

_CELLS = {
    "triangle": ("triangle", "triangle6"),
    "quadrilateral": ("quad", "quad9"),
    "tetrahedron": ("tetra", "tetra10"),
    "hexahedron": ("hexahedron", "hexahedron27"),
    "interval": ("line", "line3"),
}

Integers = npt.NDArray[np.int64]
Tags = npt.NDArray[np.int32]


def to_meshio(arrays: MeshArrays, suffix: str) -> Any:
    """Return a `meshio.Mesh` of the cells and the tagged facets.

    Names are kept as physical names (`.msh`), families (`.med`), element sets (`.inp`), and else as an array
    of 0 and 1 for each group. XDMF files of second-order cells, which meshio reads only where all cells are
    of one kind, have no facets: an array for each boundary has bit i set where facet i of a cell is in it.

    Args:
        arrays: mesh.
        suffix: of the file to write.
    """
    import meshio

    alone = arrays.degree == 2 and suffix in (".xdmf", ".xmf")
    blocks = [_block(arrays.cell_type, arrays.degree, arrays.cells)]
    if len(arrays.facets) and not alone:
        blocks.append(_block(reference.FACET_TYPES[arrays.cell_type], arrays.degree, _facets(arrays)))
    width = arrays.gdim if suffix in (".inp", ".med") else 3
    mesh = meshio.Mesh(np.pad(arrays.points, ((0, 0), (0, width - arrays.gdim))), blocks)
    tags = [arrays.cell_tags, arrays.facet_tags][: len(blocks)]
    names = [arrays.cell_names, arrays.facet_names][: len(blocks)]
    keep = {".msh": _physical, ".med": _families, ".inp": _sets}.get(suffix, _marks)
    keep(mesh, names, tags, arrays.tdim)
    if suffix == ".vtk":  # which has no spaces
        mesh.cell_data = {name.replace(" ", "_"): data for name, data in mesh.cell_data.items()}
    if alone:
        topology = Topology(arrays)
        cells, local = topology.facet_sides(topology.named_facets)
        for name, tag in arrays.facet_names.items():
            there = arrays.facet_tags == tag
            bits = np.zeros(len(arrays.cells), dtype=np.int8)
            np.bitwise_or.at(bits, cells[there], np.left_shift(1, local[there]).astype(np.int8))
            mesh.cell_data[SIDES + name] = [bits]
    return mesh


def _physical(mesh: Any, names: list[dict[str, int]], tags: list[Tags], tdim: int) -> None:
    free = 1 + max([0, *names[0].values(), int(tags[0].max())])
    tags = [np.where(t < 0, np.int32(free), t) for t in tags]  # gmsh drops cells without a group
    mesh.field_data = {}
    for k, group in enumerate(names):
        mesh.field_data |= {name: np.array([tag, tdim - k]) for name, tag in group.items()}
    mesh.cell_data = {key: [t.copy() for t in tags] for key in ("gmsh:physical", "gmsh:geometrical")}


def _families(mesh: Any, names: list[dict[str, int]], tags: list[Tags], tdim: int) -> None:
    mesh.cell_tags, families = {}, []
    for group, own in zip(names, tags, strict=True):
        family = np.zeros(len(own), dtype=np.int64)
        for name, tag in group.items():
            number = -1 - len(mesh.cell_tags)  # MED counts downwards, cells and facets together
            mesh.cell_tags[number] = [name]
            family[own == tag] = number
        families.append(family)
    mesh.cell_data = {"cell_tags": families}


def _sets(mesh: Any, names: list[dict[str, int]], tags: list[Tags], tdim: int) -> None:
    for k, (group, own) in enumerate(zip(names, tags, strict=True)):
        for name, tag in group.items():
            empty = [np.empty(0, np.int64) for _ in tags]
            mesh.cell_sets.setdefault(name, empty)[k] = np.flatnonzero(own == tag)


def _marks(mesh: Any, names: list[dict[str, int]], tags: list[Tags], tdim: int) -> None:
    for k, (prefix, group) in enumerate(zip((CELL_GROUP, FACET_GROUP), names, strict=False)):
        for name, tag in group.items():
            marks = [np.zeros(len(t), np.int8) for t in tags]
            marks[k] = (tags[k] == tag).astype(np.int8)
            mesh.cell_data[prefix + name] = marks


def _block(cell_type: str, degree: int, cells: Integers) -> tuple[str, Integers]:
    order = np.argsort(vtk_order(cell_type, cells.shape[1]))
    return _CELLS[cell_type][degree - 1], cells[:, order]


def _facets(arrays: MeshArrays) -> Integers:
    """Return all nodes of the tagged facets, (facets, nodes), in the order of their cells."""
    if arrays.degree == 1:
        return arrays.facets
    topology = Topology(arrays)
    cells, local = topology.facet_sides(topology.named_facets)
    return np.asarray(arrays.cells[cells[:, None], reference.facet_nodes(arrays.cell_type, 2)[local]])
