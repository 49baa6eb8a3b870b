"""XDMF files, with their arrays in an HDF5 file beside them."""

from __future__ import annotations

import warnings
from pathlib import Path

import meshio

from spon.fem.output.fields import Field, Floats
from spon.fem.output.vtu import columns, vtk_cells
from spon.files import replacing
from spon.xdmf_series import Series

__all__ = ["write_xdmf"]


def write_xdmf(path: Path, fields: list[Field], times: Floats | None) -> None:
    """Write values at vertices and constants on cells; reduce what is more, with a warning.

    Args:
        path: `.xdmf`; the `.h5` beside it is replaced too.
        fields: checked.
        times: (steps,), or None for one step without a time.
    """
    mesh = fields[0].space.mesh
    constant = [field for field in fields if field.degree == 0]
    nodal = [field for field in fields if field.degree > 0]
    reduced = [f"'{f.name}' ({f.space.name})" for f in nodal if f.degree > 1 or not f.continuous]
    if mesh.arrays.degree > 1:
        reduced.append("the curved mesh")
    if reduced:
        text = (
            f"{path}: {', '.join(reduced)} reduced to values at vertices of straight cells; .vtu keeps more"
        )
        warnings.warn(text, stacklevel=2)
    points, cells = vtk_cells(mesh, 1, True)
    at_nodes = columns(nodal, [field.nodal(1, True) for field in nodal])
    in_cells = columns(constant, [field.nodal(0, False) for field in constant])
    with replacing(path) as temporary:
        if times is None:
            point_data = {name: values[0] for name, values in at_nodes}
            cell_data = {name: [values[0]] for name, values in in_cells}
            meshio.write(temporary, meshio.Mesh(points, cells, point_data, cell_data))
        else:
            with Series(temporary) as writer:
                writer.write_points_cells(points, cells)
                for step, time in enumerate(times):
                    point_data = {name: values[step] for name, values in at_nodes}
                    cell_data = {name: [values[step]] for name, values in in_cells}
                    writer.write_data(float(time), point_data, cell_data)
        temporary.with_suffix(".h5").replace(path.with_suffix(".h5"))
