"""The linearised operator of a problem, or its Riesz map, and a preconditioner, refilled for every sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import ufl
from petsc4py import PETSc
from ufl.algorithms import expand_derivatives

from spon.errors import SponError
from spon.fem.galerkin import SMOOTHING, distributed, free_prolongations
from spon.fem.krylov import direct
from spon.fem.linearity import linear_form
from spon.fem.nullspace import constants, span
from spon.fem.petsc_options import PrefixedOptions
from spon.fem.reduced_form import ReducedForm
from spon.physics.assembled.problem import Problem

__all__ = ["METHODS", "OPERATORS", "Linearised"]

Floats = npt.NDArray[np.float64]
METHODS = ("direct", "amg", "multigrid")
OPERATORS = ("jacobian", "riesz")


class Linearised:
    """A = ZᵀJZ of a problem at (u, m), or ZᵀRZ of its Riesz map, and B ≈ A⁻¹. Collective.

    Args:
        problem: any.
        method: B: "direct", a factorisation; "amg", one cycle of BoomerAMG, for vectors of GAMG with rigid
            motions; "multigrid", one cycle of the problem's own levels, see `spon.fem.galerkin`.
        operator: "jacobian" or "riesz".
        options: further PETSc options of the KSP.

    Attributes:
        form: of the problem; its tangent is A.
        ksp: with the operators set.

    Raises:
        SponError: another name; what the method or the operator cannot do.
    """

    def __init__(
        self,
        problem: Problem,
        method: str = "multigrid",
        operator: str = "jacobian",
        options: dict[str, Any] | None = None,
    ) -> None:
        for name, value, allowed in (("method", method, METHODS), ("operator", operator, OPERATORS)):
            if value not in allowed:
                raise SponError(f"{name} '{value}'; allowed: {', '.join(repr(a) for a in allowed)}")
        self.problem, self.comm, self._method = problem, problem.comm, method
        prolongations = None
        if method == "multigrid":
            prolongations = free_prolongations(problem.discretisation, problem.constraint)
        inputs = problem.coefficients
        self._varies = True

        def derivative(u: Any, trial: Any, v: Any) -> Any:
            if operator == "riesz":
                J = problem.riesz(trial, v)
            else:
                J = ufl.derivative(linear_form(problem.residual(u, inputs.ufl, v)), u, trial)
            J = expand_derivatives(J)
            used = (*J.coefficients(), *J.constants())
            self._varies = any(item is u or item in inputs for item in used)
            return J

        self.form = ReducedForm(
            problem.order,
            problem.constraint,
            lambda u, v: linear_form(problem.residual(u, inputs.ufl, v)),
            derivative,
        )
        self._columns = np.concatenate(self.comm.allgather(self.form.columns))
        self.rhs, self.x = self.form.x.duplicate(), self.form.x.duplicate()
        self.ksp = PETSc.KSP().create(self.comm)
        chosen = self._chosen(method) | (options or {})
        self._options = PrefixedOptions(self.ksp, chosen)
        self._mats: list[PETSc.Mat] = []
        if prolongations is not None:
            self._mats = distributed(prolongations, self.form.columns, self.comm)
            pc = self.ksp.getPC()
            pc.setType("mg")
            pc.setMGLevels(len(self._mats) + 1)
            for number, P in enumerate(self._mats):
                pc.setMGInterpolation(len(self._mats) - number, P)
        self._options.apply()
        self._fresh = True

    def _chosen(self, method: str) -> dict[str, Any]:
        """Return PETSc options of a method; for GAMG, tell the matrix of the rigid motions."""
        if method == "direct":
            return direct(self.comm)
        if method == "multigrid":
            return SMOOTHING
        element = self.problem.order.canonical.parts[0]
        if element.block_size == 1:
            return {"pc_type": "hypre", "pc_hypre_type": "boomeramg"}
        constraint = self.problem.constraint
        motions = _rigid_motions(self.problem)
        near = span(constraint.free(motions + constraint.shift), self.form.x, self.form.columns)
        self.form.tangent.setNearNullSpace(near)
        return {"pc_type": "gamg", "pc_gamg_threshold": 0.02, "mg_levels_ksp_max_it": 4}

    def at(self, u: Floats, m: Floats) -> None:
        """Linearise at u (DoFs,) and the inputs m (DoFs of all inputs,), and set up B. Collective.

        Raises:
            SponError: A has no such preconditioner, such as a singular one.
        """
        form, order = self.form, self.problem.order
        self.problem.coefficients.set(m)
        if self.problem.load is not None:
            self.problem.load.value = 1.0
        form.shift.array_w[:] = order.to_live(u)[: order.owned]
        form.x.set(0.0)
        if self._varies or self._fresh:
            form.linearise(form.x)
            if not np.isfinite(form.tangent.norm()):  # MUMPS may hang
                raise SponError("the linearised operator is not finite")
            self.ksp.setOperators(form.tangent)
        else:
            form.set(form.x)
        try:
            self.ksp.setUp()
        except PETSc.Error as error:
            raise SponError(f"the preconditioner could not be set up: PETSc error {error.ierr}") from error
        finally:
            self._options.forget()
        self._fresh = False
        reason = self.ksp.getPC().getFailedReason()
        if reason:
            if self._method == "direct":
                self.ksp.getPC().reset()  # MUMPS would not factorise the next matrix
            raise SponError(f"the preconditioner could not be set up: the operator is singular ({reason})")

    def assemble(self) -> None:
        """Write Zᵀ F of the (u, m) of `at` to `rhs`. Collective."""
        self.form.residual(self.form.x, self.rhs)

    def apply(self, r: Floats) -> Floats:
        """Return Z B Zᵀ r, (DoFs,), of a dual vector (DoFs,). Collective."""
        Z = self.problem.constraint.Z
        self.rhs.array_w[:] = (Z.T @ r)[self.form.columns]
        self.precondition()
        return Z @ self.gather(self.x)

    def precondition(self) -> None:
        """Write B b to `x`, for the b in `rhs`. Collective."""
        self.ksp.getPC().apply(self.rhs, self.x)

    def gather(self, x: PETSc.Vec) -> Floats:
        """Return û (free DoFs,) of a distributed vector, on every rank. Collective."""
        out = np.empty(len(self._columns))
        out[self._columns] = np.concatenate(self.comm.allgather(np.array(x.array_r)))
        return out

    def destroy(self) -> None:
        """Free the PETSc objects. Collective."""
        self._options.forget()
        for one in (self.ksp, self.rhs, self.x, *self._mats, self.form):
            one.destroy()
        PETSc.garbage_cleanup(self.comm)


def _rigid_motions(problem: Problem) -> Floats:
    """Return translations and rotations of a Lagrange space of displacements, (motions, DoFs).

    For vectors of another length than space has directions: the constants of each component.
    """
    translations = constants(problem.order)
    space = problem.order.canonical
    points, n = space.nodes, len(translations)
    if n != points.shape[1]:
        return translations
    rows: list[Floats] = list(translations)
    for i in range(n):
        for j in range(i):
            motion = np.zeros_like(points)
            motion[:, i], motion[:, j] = points[:, j], -points[:, i]
            rows.append(motion.ravel())
    return np.array(rows)
