"""What a singular operator maps to zero: taken out of loads and solutions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import ufl
from dolfinx import fem
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.assembly import assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.spaces import point_values

__all__ = ["Nullspace", "checked", "span"]

Floats = npt.NDArray[np.float64]


class Nullspace:
    """Functions that an operator and its transpose map to zero. Collective.

    Args:
        order: canonical order of the space.
        constraint: that the functions satisfy without its shift.
        functions: `"constants"`, one for each component of a Lagrange space, or (functions, DoFs) in
            canonical order.

    Attributes:
        free: (functions, free DoFs) û of these.

    Raises:
        SponError: an array of another shape; functions that the constraint does not admit.
    """

    def __init__(self, order: CanonicalOrder, constraint: Constraint, functions: str | Floats) -> None:
        if isinstance(functions, str) and functions != "constants":
            raise SponError(f"nullspace '{functions}'; allowed: 'constants', or an array (functions, DoFs)")
        values = constants(order) if isinstance(functions, str) else checked(order, functions)
        self.free = constraint.free(values + constraint.shift)
        gap = np.abs(self.free @ constraint.Z.T - values).max()
        if gap > 1e-10 * np.abs(values).max():
            raise SponError(f"the constraint does not admit the nullspace: they differ by {gap:.3g}")
        self._pairs = _orthonormal(order, values)

    def remove_load(self, load: PETSc.Vec) -> None:
        """Subtract from b what no A u equals: b ← b − Σ (n, ·) b(n)."""
        for one, weight in self._pairs:
            load.axpy(-load.dot(one), weight)

    def remove_part(self, values: PETSc.Vec) -> None:
        """Subtract from u its L2 projection, Σ (n, u) n."""
        for one, weight in self._pairs:
            values.axpy(-values.dot(weight), one)

    def destroy(self) -> None:
        """Free the PETSc objects. Collective."""
        for pair in self._pairs:
            for vector in pair:
                vector.destroy()


def constants(order: CanonicalOrder) -> Floats:
    """Return the constants of each component of a Lagrange space, (components, DoFs).

    Raises:
        SponError: another element.
    """
    parts = order.canonical.parts
    if len(parts) > 1 or not point_values(parts[0].numbering.element):
        raise SponError(
            f"nullspace 'constants' needs a Lagrange space, not {order.canonical.name}; give an array"
        )
    return np.tile(np.eye(parts[0].block_size), parts[0].numbering.size)


def checked(order: CanonicalOrder, functions: Floats) -> Floats:
    """Return functions as (functions, DoFs) float64.

    Raises:
        SponError: another shape, none, or a value that is not finite.
    """
    out = np.atleast_2d(np.asarray(functions, dtype=np.float64))
    if out.ndim != 2 or out.shape[1] != order.size or len(out) == 0 or not np.isfinite(out).all():
        raise SponError(
            f"nullspace of shape {np.shape(functions)}; allowed: (functions, {order.size}), finite"
        )
    return out


def span(free: Floats, template: PETSc.Vec, columns: npt.NDArray[np.int64]) -> PETSc.NullSpace:
    """Return an orthonormal basis of vectors û as PETSc wants it. Collective.

    Args:
        free: (vectors, free DoFs).
        template: distributed vector û.
        columns: numbers of the û that this rank owns, in its order.
    """
    vectors = []
    for column in np.linalg.qr(free.T)[0].T:
        vectors.append(template.duplicate())
        vectors[-1].array_w[:] = column[columns]
    return PETSc.NullSpace().create(constant=False, vectors=vectors, comm=template.comm)


def _orthonormal(order: CanonicalOrder, functions: Floats) -> list[tuple[PETSc.Vec, PETSc.Vec]]:
    """Return functions n, orthonormal in L2, each with the vector of the form (n, ·)."""
    live = [fem.Function(order.space) for _ in functions]
    duals = []
    for one, values in zip(live, functions, strict=True):
        order.scatter(np.asarray(values), one)
        duals.append(assembled_vector(ufl.inner(one, ufl.TestFunction(order.space)) * ufl.dx))
    weights = np.array([order.gather_dual(dual.array_r) for dual in duals])
    mix = np.linalg.inv(np.linalg.cholesky(weights @ functions.T))
    primal = np.array([one.x.array[: order.owned] for one in live])
    dual = np.array([one.array_r[: order.owned] for one in duals])
    sizes = (order.owned, order.size)
    pairs = []
    for row in mix:
        pair = tuple(PETSc.Vec().createMPI(sizes, comm=order.mesh.comm) for _ in range(2))
        for vector, parts in zip(pair, (primal, dual), strict=True):
            vector.array_w[:] = row @ parts
        pairs.append((pair[0], pair[1]))
    for one in duals:
        one.destroy()
    return pairs
