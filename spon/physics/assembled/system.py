"""Forms, matrices and vectors of a problem, made once and refilled for every sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import ufl
from dolfinx import fem
from dolfinx.fem import petsc
from petsc4py import PETSc

from spon.fem.affine import AffineReduction
from spon.fem.linearity import linear_form
from spon.fem.newton import NewtonSolver

__all__ = ["LinearSystem", "NonlinearSystem"]

Floats = npt.NDArray[np.float64]
_AFTER = 20  # samples: fewer do not earn what the map of an affine matrix takes to make


class LinearSystem:
    """A problem linear in u. A form that depends on no input is assembled once.

    A matrix that is affine in its only input is not assembled for each sample, but made by a fixed map
    (`spon.fem.affine`), if one rank has the mesh and u_g is the same for all samples.

    Args:
        problem: linear.

    Raises:
        SponError: a residual that is not linear in v; what the solver refuses.

    Attributes:
        solver: of the problem; if the matrix is the same for all samples, it is factorised once.
        matrix: of the sample that was assembled last.
        rhs: likewise.
    """

    def __init__(self, problem: Any) -> None:
        self._order = problem.order
        space, coefficients = problem.space, problem.coefficients
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        linear_form(problem.residual(fem.Function(space), coefficients.ufl, v))
        zero = fem.Constant(space.mesh, np.zeros(u.ufl_shape))
        form = (
            problem.residual(u, coefficients.ufl, v) - ufl.inner(zero, v) * ufl.dx
        )  # a right-hand side exists
        left, right = ufl.lhs(form), ufl.rhs(form)
        self._varies = [_depends(part, coefficients) for part in (left, right)]
        self._a, self._L = fem.form(left), fem.form(right)
        self.matrix = petsc.create_matrix(self._a)
        self.rhs = petsc.assemble_vector(self._L)
        self._fresh = True
        self._left, self._coefficients = left, coefficients
        self._affine: AffineReduction | None = None
        self._solved = 0
        self.solver = problem.make_solver(constant=not self._varies[0])

    def assemble(self) -> None:
        """Assemble for the inputs that the coefficients hold. Collective."""
        if self._fresh or self._varies[0]:
            self.matrix.zeroEntries()
            petsc.assemble_matrix(self.matrix, self._a)
            self.matrix.assemble()
        self._assemble_rhs()
        self._fresh = False

    def _assemble_rhs(self) -> None:
        if self._fresh or self._varies[1]:
            with self.rhs.localForm() as local:
                local.set(0.0)
            petsc.assemble_vector(self.rhs, self._L)
            self.rhs.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)

    def solve(self, shift: Floats | None) -> tuple[Floats, dict[str, float]]:
        """Assemble and solve. Collective.

        Args:
            shift: (DoFs,) u_g of the sample; None: that of the constraint.

        Returns:
            (DoFs,) u in canonical order, and statistics.
        """
        if self._affine is not None:
            self._assemble_rhs()
            self._affine.load(self.rhs)
            found = self.solver.solve_loaded()
        else:
            self.assemble()
            found = self.solver.solve(self.matrix, self.rhs, shift)
            self._solved += 1
            if self._solved == _AFTER and self._varies[0] and shift is None:
                self._affine = AffineReduction.make(
                    self.solver.system, self._left, self._coefficients.ufl, self.matrix
                )
        return self._order.gather(found), dict(self.solver.statistics)


class NonlinearSystem:
    """A problem nonlinear in u, solved by Newton's method on the admissible functions.

    Args:
        problem: nonlinear; its `load`, if it has one, is raised to one in `load_steps` steps.

    Raises:
        SponError: a residual that is not linear in v; what the solver refuses.
    """

    def __init__(self, problem: Any) -> None:
        self._order, self._steps = problem.order, problem.load_steps
        inputs, load = problem.coefficients.ufl, problem.load

        def set_load(share: float) -> None:
            load.value = share

        self._solver = NewtonSolver(
            problem.order,
            problem.constraint,
            lambda u, v: linear_form(problem.residual(u, inputs, v)),
            options=problem.solver_options,
            load=None if load is None else set_load,
        )

    def solve(self, shift: Floats | None) -> tuple[Floats, dict[str, float]]:
        """Solve from zero. Collective.

        Args:
            shift: (DoFs,) u_g of the sample; None: that of the constraint.

        Returns:
            (DoFs,) u in canonical order, and statistics: `iterations` of Newton, `load_steps`, and
            `bisections` of load steps that failed.

        Raises:
            SponError: no convergence.
        """
        values = self._order.gather(self._solver.solve(shift, steps=self._steps))
        found = self._solver.statistics
        assert found is not None
        return values, {
            "iterations": float(found.iterations),
            "load_steps": float(found.steps),
            "bisections": float(found.bisections),
        }


def _depends(form: Any, coefficients: Any) -> bool:
    """Whether a form has an input among its coefficients or constants."""
    return any(item in coefficients for item in (*form.coefficients(), *form.constants()))
