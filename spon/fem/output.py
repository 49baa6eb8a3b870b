"""Write fields for ParaView."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import meshio
import numpy as np
import numpy.typing as npt
from dolfinx import fem, io

from spon.errors import SponError, agree
from spon.fem.canonical import CanonicalOrder
from spon.files import replacing

__all__ = ["write"]

SUFFIXES = (".bp", ".xdmf")
_MESHIO_CELLS = {"triangle": "triangle", "tetrahedron": "tetra"}


def write(path: str | Path, order: CanonicalOrder, fields: Mapping[str, npt.NDArray[np.float64]]) -> None:
    """Write first-order Lagrange fields. Collective over the communicator of the space.

    Args:
        path: `.bp` (VTX, written in parallel by ADIOS2), or `.xdmf` with its `.h5` (written by
            meshio on rank 0; nodes in the order of the input mesh).
        order: canonical order of the space of the fields.
        fields: name → (DoFs,) in canonical order.

    Raises:
        SponError: on all ranks: unknown suffix, unwritable path.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise SponError(f"{path}: unknown output format; allowed: {', '.join(SUFFIXES)}")
    if path.suffix == ".bp":
        _write_vtx(path, order, fields)
        return
    comm = order.space.mesh.comm
    with agree(comm):
        if comm.rank == 0:
            _write_xdmf(path, order, fields)


def _write_vtx(path: Path, order: CanonicalOrder, fields: Mapping[str, npt.NDArray[np.float64]]) -> None:
    functions = []
    for name, values in fields.items():
        functions.append(fem.Function(order.space, name=name))
        order.scatter(values, functions[-1])
    comm = order.space.mesh.comm
    with contextlib.ExitStack() as stack:
        temporary = None
        with agree(comm):
            if comm.rank == 0:
                temporary = stack.enter_context(replacing(path))
        with io.VTXWriter(comm, comm.bcast(temporary, root=0), functions) as writer:
            writer.write(0.0)
    comm.Barrier()  # the name is there when any rank returns


def _write_xdmf(path: Path, order: CanonicalOrder, fields: Mapping[str, npt.NDArray[np.float64]]) -> None:
    arrays = order.mesh.arrays
    points = np.pad(arrays.points, ((0, 0), (0, 3 - arrays.gdim)))
    mesh = meshio.Mesh(points, [(_MESHIO_CELLS[arrays.cell_type], arrays.cells)], point_data=dict(fields))
    with replacing(path) as temporary:
        meshio.write(temporary, mesh)
        temporary.with_suffix(".h5").replace(path.with_suffix(".h5"))
