"""One call from UFL forms to a function that satisfies a constraint."""

from __future__ import annotations

from typing import Any

from dolfinx import fem

from spon.constraint import Constraint
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.linearity import multilinear
from spon.fem.solver import ConstrainedSolver

__all__ = ["solve"]


def solve(order: CanonicalOrder, a: Any, L: Any, constraint: Constraint, **settings: Any) -> Any:
    """Find u = Z û + u_g with a(u, Z v̂) = L(Z v̂) for all v̂. Collective.

    For many systems on one space make a `ConstrainedSolver`, which keeps its matrices.

    Args:
        order: canonical order of the space.
        a: bilinear UFL form.
        L: linear UFL form.
        constraint: what the solution satisfies, in canonical order.
        **settings: `options`, `nullspace` and `near_nullspace` of `ConstrainedSolver`.

    Returns:
        u, a `dolfinx.fem.Function` in the space, ghosts up to date.

    Raises:
        SponError: forms that are not linear in their arguments; the solver did not converge, and what
            `ConstrainedSolver` refuses.
    """
    multilinear(a, 2, "a", "a(u, v) linear in u and in v")
    multilinear(L, 1, "L", "L(v) linear in v")
    matrix, rhs = assembled(a), assembled_vector(L)
    u = fem.Function(order.space)
    try:
        with ConstrainedSolver(order, constraint, **settings) as solver:
            owned = solver.solve(matrix, rhs)
    finally:
        matrix.destroy()
        rhs.destroy()
    u.x.array[: order.owned] = owned
    u.x.scatter_forward()
    return u
