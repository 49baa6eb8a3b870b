"""VTX files: written in parallel by ADIOS2, with one element for all fields."""

from __future__ import annotations

import contextlib
from pathlib import Path

import basix.ufl
import dolfinx
import numpy as np
from dolfinx import fem, io

from spon.errors import MissingDependencyError, agree
from spon.fem.canonical import CanonicalOrder
from spon.fem.output.fields import Field, Floats
from spon.files import replacing

__all__ = ["write_vtx"]

_SHAPES: dict[int, tuple[int, ...]] = {1: (), 3: (3,), 9: (3, 3)}


def write_vtx(path: Path, fields: list[Field], times: Floats | None) -> None:
    """Write a `.bp` folder. Collective.

    Args:
        path: to make or replace.
        fields: checked.
        times: (steps,), or None for one step at 0.
    """
    mesh = fields[0].space.mesh
    with agree(mesh.comm):
        if not dolfinx.has_adios2:
            raise MissingDependencyError(".bp needs a DOLFINx that was built with ADIOS2; allowed here: .vtu")
        columns = _columns(fields)
    mesh = mesh.unshared  # else a cell that two ranks know would be in the file twice
    functions, orders = [], []
    for name, degree, continuous, values in columns:
        shape = _SHAPES[values.shape[-1]]
        element = basix.ufl.element(
            "Lagrange", mesh.arrays.cell_type, degree, shape=shape or None, discontinuous=not continuous
        )
        orders.append(CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, element)))
        functions.append(fem.Function(orders[-1].space, name=name))
    with contextlib.ExitStack() as stack:
        temporary = None
        with agree(mesh.comm):
            if mesh.comm.rank == 0:
                temporary = stack.enter_context(replacing(path))
        with io.VTXWriter(mesh.comm, mesh.comm.bcast(temporary, root=0), functions) as writer:
            for step, time in enumerate([0.0] if times is None else times):
                for order, function, (*_, values) in zip(orders, functions, columns, strict=True):
                    order.scatter(values[step].ravel(), function)
                writer.write(float(time))
    mesh.comm.Barrier()  # the name is there when any rank returns


def _columns(fields: list[Field]) -> list[tuple[str, int, bool, Floats]]:
    """Return name, degree, continuity and values (steps, nodes, k) of what goes into the file."""
    continuous = all(field.continuous for field in fields)
    degree = max(field.degree for field in fields)
    if degree > 0:  # the nodes of the fields are those of the geometry too
        degree = max(degree, fields[0].space.mesh.arrays.degree)
    out = []
    for field in fields:
        for name, values in field.columns(field.nodal(degree, continuous)):
            out.append((name, degree, continuous, np.ascontiguousarray(values)))
    return out
