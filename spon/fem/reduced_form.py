"""A nonlinear form on the admissible functions of a constraint: Zᵀ F(Z û + u_g) and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import ufl
from dolfinx import fem
from dolfinx.fem import petsc
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.assembly import assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.prolongation import live_prolongation

__all__ = ["ReducedForm"]


class ReducedForm:
    """Forms, matrices and vectors of a nonlinear problem, made once and refilled. Collective.

    Args:
        order: canonical order of the space.
        constraint: with Z; its shift is not used.
        residual: F(u; v) as a UFL form, from the live unknown and a test function.
        jacobian: F'(u; δu, v), from the unknown, a trial and a test function; default: UFL's derivative.

    Attributes:
        function: the live unknown u.
        x: û, distributed as the columns of Z.
        columns: numbers of the û that this rank owns, in its order.
        shift: u_g, distributed as the space.
        tangent: ZᵀJZ.

    Raises:
        SponError: a constraint on another number of DoFs.
    """

    def __init__(
        self,
        order: CanonicalOrder,
        constraint: Constraint,
        residual: Callable[[Any, Any], Any],
        jacobian: Callable[[Any, Any, Any], Any] | None = None,
    ) -> None:
        if constraint.Z.shape[0] != order.size:
            raise SponError(f"a constraint on {constraint.Z.shape[0]} DoFs; the space has {order.size}")
        self._owned = order.owned
        self.function = u = fem.Function(order.space)
        trial, test = ufl.TrialFunction(order.space), ufl.TestFunction(order.space)
        F = residual(u, test)
        J = ufl.derivative(F, u, trial) if jacobian is None else jacobian(u, trial, test)
        self._F, self._J = fem.form(F), fem.form(J)
        PETSc.garbage_cleanup(order.mesh.comm)
        self._Z, self.columns = live_prolongation(order, constraint)
        self.shift, self._u, self._work = (self._Z.createVecs("left") for _ in range(3))
        self.x = self._Z.createVecs("right")
        self._vector, self._matrix = assembled_vector(F), petsc.assemble_matrix(self._J)
        self._matrix.assemble()
        self.tangent = self._matrix.PtAP(self._Z)

    def set(self, x: PETSc.Vec) -> None:
        """Set the live function to Z û + u_g, ghosts included. Collective."""
        self._Z.multAdd(x, self.shift, self._u)
        self.function.x.array[: self._owned] = self._u.array_r
        self.function.x.scatter_forward()

    def residual(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        """Write Zᵀ F(Z û + u_g) to `out`. Collective."""
        self._assemble(x)
        self._Z.multTranspose(self._work, out)

    def linearise(self, x: PETSc.Vec) -> None:
        """Refill the tangent at û. Collective."""
        self.set(x)
        self._matrix.zeroEntries()
        petsc.assemble_matrix(self._matrix, self._J)
        self._matrix.assemble()
        self._matrix.PtAP(self._Z, result=self.tangent)

    def predict(self, change: PETSc.Vec, out: PETSc.Vec) -> None:
        """Linearise, and write −Zᵀ(F + J δu_g) of a change of the shift to `out`. Collective."""
        self.linearise(self.x)
        self._assemble(self.x)
        self._matrix.multAdd(change, self._work, self._work)
        self._Z.multTranspose(self._work, out)
        out.scale(-1.0)

    def _assemble(self, x: PETSc.Vec) -> None:
        self.set(x)
        with self._vector.localForm() as local:
            local.set(0.0)
        petsc.assemble_vector(self._vector, self._F)
        self._vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        self._work.array_w[:] = self._vector.array_r[: self._owned]

    def round_off(self) -> float:
        """Return the size of round-off in Zᵀ F, from the tangent last assembled: ε ‖J‖∞ ‖u‖₂. Collective."""
        largest = self._matrix.norm(PETSc.NormType.INFINITY) * self._u.norm()
        return float(np.finfo(float).eps * largest)

    def energy(self) -> float:
        """Return uᵀJu of the u that was set last, boundary values included. Collective."""
        self._matrix.mult(self._u, self._work)
        return float(self._work.dot(self._u))

    def destroy(self) -> None:
        """Free the PETSc objects. Collective."""
        for one in (
            self._Z,
            self._matrix,
            self.tangent,
            self._vector,
            self.shift,
            self._u,
            self._work,
            self.x,
        ):
            one.destroy()
