"""Constraints from named boundaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from dolfinx import fem

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh

__all__ = ["BoundaryValue", "dirichlet"]

BoundaryValue = float | Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def dirichlet(mesh: TaggedMesh, space: Any, values: Mapping[str, BoundaryValue]) -> Constraint:
    """Prescribe values on named boundaries: Z drops these rows, u_g holds the values. Collective.

    Args:
        mesh: mesh with named boundaries.
        space: scalar Lagrange space of degree 1 on it.
        values: for each boundary a number, or a function of points (3, points) as in
            `dolfinx.fem.Function.interpolate`.

    Returns:
        The constraint in canonical order; u_g is zero at the free DoFs.

    Raises:
        SponError: an unknown or empty boundary; two boundaries that prescribe different values at
            a common point; a value that is not finite.
    """
    order = CanonicalOrder(mesh, space)
    tdim = mesh.arrays.tdim
    n = len(order.everywhere)
    shift, owner = np.zeros(n), np.full(n, -1)
    names = list(values)
    for number, (name, value) in enumerate(values.items()):
        function = fem.Function(space)
        if callable(value):
            function.interpolate(value)
        else:
            function.x.array[:] = value
        dofs = fem.locate_dofs_topological(space, tdim - 1, mesh.facets(name))
        parts = mesh.comm.allgather(order.local[dofs])  # a rank may see a point but not its facet
        there = np.unique(np.concatenate(parts))
        data = order.gather(function.x.array)
        if not np.isfinite(data[there]).all():
            raise SponError(f"the value prescribed on boundary '{name}' is not finite")
        clash = there[(owner[there] >= 0) & ~np.isclose(shift[there], data[there], rtol=0, atol=1e-12)]
        if len(clash):
            other, point = names[owner[clash[0]]], mesh.arrays.points[clash[0]]
            raise SponError(
                f"boundaries '{other}' and '{name}' prescribe {shift[clash[0]]:g} and "
                f"{data[clash[0]]:g} at their common point {tuple(map(float, point))}"
            )
        shift[there], owner[there] = data[there], number
    free = np.flatnonzero(owner < 0)
    if len(free) == 0:
        raise SponError("every DoF is prescribed; nothing is left to solve for")
    ones = np.ones(len(free))
    Z = sp.csr_array((ones, (free, np.arange(len(free)))), shape=(n, len(free)))
    return Constraint(Z, shift)
