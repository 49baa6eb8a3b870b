"""The base class of problem files."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import ufl
from dolfinx import fem
from dolfinx.fem import petsc
from mpi4py import MPI
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.fem.assembly import lagrange
from spon.fem.boundary import BoundaryValue, dirichlet
from spon.fem.canonical import CanonicalOrder
from spon.fem.discretise import discretise
from spon.fem.hierarchy import Hierarchy
from spon.fem.solver import ConstrainedSolver

__all__ = ["Problem"]


class Problem:
    """A parametric PDE, linear in u: find u with F(u, m; v) = 0 for all v; the operator is m ↦ u.

    A problem file derives from this class and defines `sample` and `residual`. Input m and output u
    are first-order Lagrange functions on the finest mesh of a hierarchy.

    Args:
        hierarchy: nested meshes.
        boundary_values: prescribed values of u on named boundaries (numbers, or functions of
            points (3, points)).

    Attributes:
        input_name, output_name, input_units, output_units: for files and plots.
        solver_options: PETSc options of the linear solver; None: a direct solver, which suits any
            linear problem of moderate size.
    """

    input_name: ClassVar[str] = "m"
    output_name: ClassVar[str] = "u"
    input_units: ClassVar[str] = ""
    output_units: ClassVar[str] = ""
    solver_options: dict[str, Any] | None = None

    def __init__(self, hierarchy: Hierarchy, boundary_values: Mapping[str, BoundaryValue]) -> None:
        self.hierarchy = hierarchy
        self.boundary_values = dict(boundary_values)

    def sample(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw an input; override it.

        Args:
            rng: generator of this sample; use no other source of randomness.

        Returns:
            (DoFs,) values of m in canonical order.
        """
        raise SponError(f"{type(self).__name__} does not define sample(rng)")

    def residual(self, u: Any, m: Any, v: Any) -> Any:
        """Return the UFL form F(u, m; v), linear in v and, for now, in u; override it.

        Args:
            u: solution.
            m: input.
            v: test function.
        """
        raise SponError(f"{type(self).__name__} does not define residual(u, m, v)")

    @property
    def comm(self) -> MPI.Comm:
        """Communicator that the mesh is distributed over."""
        return self.hierarchy.finest.comm

    def ds(self, boundary: str) -> Any:
        """Return the UFL measure of a named boundary of the finest mesh."""
        return self.hierarchy.finest.ds(boundary)

    @cached_property
    def space(self) -> Any:
        """First-order Lagrange space on the finest mesh."""
        return lagrange(self.hierarchy.finest)

    @cached_property
    def order(self) -> CanonicalOrder:
        """Canonical order of the space."""
        return CanonicalOrder(self.hierarchy.finest, self.space)

    @cached_property
    def constraint(self) -> Constraint:
        """What every output satisfies exactly."""
        return dirichlet(self.hierarchy.finest, self.space, self.boundary_values)

    @cached_property
    def discretisation(self) -> Discretisation:
        """The frozen arrays. Collective at the first access."""
        return discretise(self.hierarchy, self.space, self.constraint)

    def refined(self) -> Problem:
        """Return the same problem with one finer level, to measure the discretisation error."""
        other = copy.copy(self)
        for name in list(vars(other)):
            if isinstance(getattr(type(self), name, None), cached_property):
                del vars(other)[name]
        other.hierarchy = self.hierarchy.refined()
        return other

    def solve(self, m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Solve for one input. Collective over `comm`.

        Args:
            m: (DoFs,) in canonical order, the same on every rank of `comm`.

        Returns:
            (DoFs,) u in canonical order.

        Raises:
            SponError: the linear solver did not converge.
        """
        self._system.assemble(m)
        return self.order.gather(self._solver.solve(self._system.matrix, self._system.rhs))

    @cached_property
    def _system(self) -> _LinearSystem:
        return _LinearSystem(self)

    @cached_property
    def _solver(self) -> ConstrainedSolver:
        return ConstrainedSolver(self.order, self.constraint, self.solver_options)


class _LinearSystem:
    """Forms, matrix and vector of a linear problem, made once and refilled for every input."""

    def __init__(self, problem: Problem) -> None:
        space = problem.space
        self._order = problem.order
        self._m = fem.Function(space)
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        zero = fem.Constant(problem.hierarchy.finest.dolfinx, 0.0)
        form = problem.residual(u, self._m, v) - zero * v * ufl.dx  # so that a right-hand side exists
        self._a, self._L = fem.form(ufl.lhs(form)), fem.form(ufl.rhs(form))
        self.matrix = petsc.create_matrix(self._a)
        self.rhs = petsc.assemble_vector(self._L)

    def assemble(self, m: npt.NDArray[np.float64]) -> None:
        self._order.scatter(m, self._m)
        self.matrix.zeroEntries()
        petsc.assemble_matrix(self.matrix, self._a)
        self.matrix.assemble()
        with self.rhs.localForm() as local:
            local.set(0.0)
        petsc.assemble_vector(self.rhs, self._L)
        self.rhs.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
