"""VTU files with cells of first or second order, and series of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import basix.ufl
import meshio
import numpy as np
import numpy.typing as npt
from dolfinx import io
from dolfinx.mesh import CellType

from spon.fem.mesh import TaggedMesh
from spon.fem.output.fields import Field, Floats
from spon.fem.spaces import CanonicalSpace
from spon.files import replacing

__all__ = ["columns", "vtk_cells", "write_pvd", "write_vtu"]

_CELLS = {
    ("triangle", 1): "triangle",
    ("triangle", 2): "triangle6",
    ("quadrilateral", 1): "quad",
    ("quadrilateral", 2): "quad9",
    ("tetrahedron", 1): "tetra",
    ("tetrahedron", 2): "tetra10",
    ("hexahedron", 1): "hexahedron",
    ("hexahedron", 2): "hexahedron27",
}


def write_vtu(path: Path, fields: list[Field]) -> None:
    """Write one step. Nodes are shared by the cells where all fields are continuous there.

    Args:
        path: to make or replace.
        fields: checked.
    """
    (mesh,) = _meshes(path, fields)
    with replacing(path) as temporary:
        meshio.write(temporary, mesh)


def write_pvd(path: Path, fields: list[Field], times: Floats | None) -> None:
    """Write `name_000000.vtu`, … and then the `.pvd` that lists them with their times."""
    times = np.zeros(1) if times is None else times
    root = ElementTree.Element("VTKFile", type="Collection", version="0.1", byte_order="LittleEndian")
    collection = ElementTree.SubElement(root, "Collection")
    for step, (time, mesh) in enumerate(zip(times, _meshes(path, fields), strict=True)):
        name = f"{path.stem}_{step:06d}.vtu"
        with replacing(path.with_name(name)) as temporary:
            meshio.write(temporary, mesh)
        ElementTree.SubElement(collection, "DataSet", timestep=repr(float(time)), part="0", file=name)
    ElementTree.indent(root)
    with replacing(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _meshes(path: Path, fields: list[Field]) -> Iterator[meshio.Mesh]:
    """Yield a mesh with data for each step."""
    constant = [field for field in fields if field.degree == 0]
    nodal = [field for field in fields if field.degree > 0]
    mesh = fields[0].space.mesh
    for field in nodal:
        if field.degree > 2:
            warnings.warn(
                f"{path}: '{field.name}' ({field.space.name}) is reduced to degree 2; .bp keeps it",
                stacklevel=2,
            )
    degree = min(2, max([mesh.arrays.degree, *(field.degree for field in nodal)]))
    continuous = all(field.continuous for field in nodal)
    points, cells = vtk_cells(mesh, degree, continuous)
    at_nodes = columns(nodal, [field.nodal(degree, continuous) for field in nodal])
    in_cells = columns(constant, [field.nodal(0, False) for field in constant])
    for step in range(len(fields[0].values)):
        yield meshio.Mesh(
            points,
            cells,
            point_data={name: values[step] for name, values in at_nodes},
            cell_data={name: [values[step]] for name, values in in_cells},
        )


def vtk_cells(
    mesh: TaggedMesh, degree: int, continuous: bool
) -> tuple[Floats, list[tuple[str, npt.NDArray[np.int64]]]]:
    """Return nodes and cells of first or second order in VTK's order.

    Args:
        mesh: input mesh.
        degree: 1 or 2.
        continuous: whether cells share nodes.

    Returns:
        (nodes, 3), those of the canonical Lagrange or DG space, and the cells for meshio.
    """
    cell_type = mesh.arrays.cell_type
    element = basix.ufl.element("Lagrange", cell_type, degree, discontinuous=not continuous)
    space = CanonicalSpace(mesh, element)
    dofmap = space.parts[0].numbering.dofmap
    order = np.argsort(io.utils.cell_perm_vtk(CellType[cell_type], dofmap.shape[1]))
    nodes = np.pad(space.nodes, ((0, 0), (0, 3 - mesh.arrays.gdim)))
    return nodes, [(_CELLS[cell_type, degree], dofmap[:, order])]


def columns(fields: list[Field], values: list[Floats]) -> list[tuple[str, Floats]]:
    """Return names and values (steps, n) or (steps, n, 3 or 9) of what goes into a file."""
    both = zip(fields, values, strict=True)
    pairs = [pair for field, one in both for pair in field.columns(one)]
    return [(name, one[..., 0] if one.shape[-1] == 1 else one) for name, one in pairs]
