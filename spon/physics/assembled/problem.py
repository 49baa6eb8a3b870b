"""The base class of problem files."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import ufl
from mpi4py import MPI

from spon.constraint import Constraint
from spon.discretisation import Discretisation
from spon.errors import SponError, agree
from spon.fem.assembly import lagrange
from spon.fem.boundary import BoundaryValue, dirichlet
from spon.fem.canonical import CanonicalOrder
from spon.fem.discretise import discretise
from spon.fem.encoding import Dofs, Encoder
from spon.fem.hierarchy import Hierarchy
from spon.fem.mesh import read_mesh
from spon.fem.recycling import RecyclingSolver
from spon.fem.solver import ConstrainedSolver
from spon.fem.tuned import TunedSolver
from spon.level import Level
from spon.physics.assembled.coefficients import Coefficients
from spon.physics.assembled.describe import describe, verify
from spon.physics.assembled.system import LinearSystem, NonlinearSystem
from spon.physics.kernels.physics import Physics
from spon.projection import ZeroMean
from spon.resources import find_mesh

__all__ = ["Problem", "Solution"]

_TUNED_RTOL = 1e-12  # so that data of different solvers agree
_RECYCLED_RTOL, _RECYCLED_EVERY = 1e-11, 8  # systems between factorisations

Floats = npt.NDArray[np.float64]
P = TypeVar("P", bound="Problem")


@dataclass(frozen=True)
class Solution:
    """What a solve gives.

    Args:
        values: (DoFs,) u in canonical order.
        statistics: such as `seconds`, `iterations`.
    """

    values: Floats
    statistics: dict[str, float]


class Problem:
    """A parametric PDE: find u with F(u; m, v) = 0 for all v; the operator is m ↦ u.

    A problem file derives from this class and defines `sample` and `residual`, and where they are
    not the first-order Lagrange ones with prescribed values, `make_space`, `make_inputs` and
    `make_constraint`.

    Args:
        hierarchy: levels; the problem is solved on the finest mesh.
        boundary_values: prescribed values of u on named boundaries, as `spon.dirichlet` takes them.

    Attributes:
        default_mesh: mesh of `from_mesh` where none is given, a name that `spon.find_mesh` finds.
        default_refinements: how often the default mesh is refined.
        linear: whether F is linear (affine) in u. The forms of a linear problem are assembled for a sample
            only where they depend on its inputs.
        definite: whether the Jacobian is symmetric positive definite on admissible functions.
        boundary_data: input → boundary where u takes the values of that input (a `spon.Trace`).
        output_name: for files and plots.
        units: of inputs and output by name.
        load: for nonlinear problems, a `dolfinx.fem.Constant` that the residual multiplies its loads with.
        load_steps: in how many steps it is raised to one; steps that fail are halved.
        solver_options: PETSc options of the linear solver, and of SNES (`snes_…`) for nonlinear problems;
            None: a direct solver, which suits any problem of moderate size; "tuned": a `TunedSolver`, for
            linear problems (solutions then agree to its tolerance, not to the last bit); "recycled": a
            `RecyclingSolver`, for linear problems on one rank. It was four to five times slower than MUMPS on
            `problems/helmholtz.py`, so that it is no arm of "tuned".
    """

    default_mesh: ClassVar[str | None] = None
    default_refinements: ClassVar[int] = 0
    linear: ClassVar[bool] = True
    definite: ClassVar[bool] = True
    boundary_data: ClassVar[Mapping[str, str]] = {}
    output_name: ClassVar[str] = "u"
    units: ClassVar[Mapping[str, str]] = {}
    load: Any = None
    load_steps: int = 1
    solver_options: dict[str, Any] | str | None = None

    def __init__(
        self, hierarchy: Hierarchy, boundary_values: Mapping[str, BoundaryValue] | None = None
    ) -> None:
        self.hierarchy = hierarchy
        self.boundary_values = dict(boundary_values or {})

    @classmethod
    def from_mesh(
        cls: type[P],
        path: str | Path | None = None,
        comm: MPI.Comm = MPI.COMM_WORLD,
        group: MPI.Comm | None = None,
        refinements: int | None = None,
        **options: Any,
    ) -> P:
        """Make the problem on a mesh file that is refined uniformly. Collective over `comm`.

        Args:
            path: mesh file; default: the one that the class names.
            comm: all the ranks that want the mesh.
            group: the ranks that share one mesh, as for `spon.read_mesh`; default: `comm`.
            refinements: how often the mesh is refined, ≥ 0; default: `default_refinements` for the default
                mesh, 0 for another one.
            options: further arguments of the class.

        Raises:
            SponError: on all ranks: no path where the class names no mesh, a mesh that cannot be read, a
                negative number.
        """
        if refinements is not None and refinements < 0:
            raise SponError(f"refinements = {refinements}; allowed: 0, 1, 2, …")
        if path is None and cls.default_mesh is None:
            raise SponError(f"{cls.__name__} names no mesh of its own; allowed: the path of a mesh")
        if refinements is None:
            refinements = cls.default_refinements if path is None else 0
        with agree(comm):
            found = find_mesh(str(cls.default_mesh)) if path is None else Path(path)
        return cls(Hierarchy.uniform(read_mesh(found, comm, group), refinements), **options)

    # ------------------------------------------------------------- to override

    def sample(self, rng: np.random.Generator) -> Floats | Mapping[str, Any]:
        """Draw the inputs; override it.

        Args:
            rng: generator of this sample; use no other source of randomness.

        Returns:
            (DoFs,) of the only input in canonical order, or name → (DoFs,) of each.
        """
        raise SponError(f"{type(self).__name__} does not define sample(rng)")

    def residual(self, u: Any, m: Any, v: Any) -> Any:
        """Return the UFL form F(u; m, v), linear in v; override it.

        Args:
            u: solution.
            m: the only input, or name → input: a function for spaces and traces (zero off the boundary),
                a constant for one parameter, a vector of constants for several.
            v: test function.
        """
        raise SponError(f"{type(self).__name__} does not define residual(u, m, v)")

    def make_space(self) -> Any:
        """Return the live space of u on the finest mesh; default: first-order Lagrange."""
        return lagrange(self.hierarchy.finest)

    def make_inputs(self) -> Mapping[str, Any]:
        """Return for each input a live space or an encoder; default: one, "m", in the space of u."""
        return {"m": self.space}

    def make_constraint(self) -> Constraint:
        """Return what every output satisfies exactly; default: the prescribed values."""
        return dirichlet(self.hierarchy.finest, self.space, self.boundary_values)

    def riesz(self, u: Any, v: Any) -> Any:
        """Return the UFL form of the inner product of V, in whose dual norm residuals are measured.

        Args:
            u: trial function.
            v: test function.

        Returns:
            A symmetric form that no input enters, definite on admissible functions; default: ∫ ∇u:∇v.
        """
        return ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx

    def stability(self, m: Floats) -> float | None:
        """Return α > 0 with F'(v, v) ≥ α (v, v)_V for all admissible v, (·, ·)_V of `riesz`.

        With it the certificate of a linear, definite problem is a guarantee: ‖e‖²_F' ≤ ‖F(u)‖²_V' / α,
        since (F')⁻¹ ≤ (α R)⁻¹ for the Riesz map R. Default: None, unknown.

        Args:
            m: (DoFs of all inputs,) of a sample.
        """
        return None

    def make_zero_mean(self) -> ZeroMean | None:
        """Return the projection onto mean zero where u is determined up to a constant; default: None."""
        return None

    def physics(self) -> Physics | None:
        """Return the equations in words that need no DOLFINx, made by `describe`; default: None.

        Where a kernel has them, networks can use the operator of each sample, and `spon generate --backend
        torch` solves batches. Override it to return such as `self.describe("diffusion", "kappa")`.
        """
        return None

    def derived(self, u: Any, m: Any) -> Mapping[str, Any]:
        """Return derived fields as UFL expressions by name, such as stresses; default: none.

        Args:
            u: solution, a function.
            m: as in `residual`.
        """
        return {}

    # -------------------------------------------------------------------- made

    def describe(self, kernel: str, coefficient: str | None = None, **constants: Any) -> Physics:
        """Return physics with the loads of the residual and the quadrature of its form. Collective.

        Args:
            kernel: "diffusion", "elasticity" or "neo-hookean"; see `spon.physics.kernels`.
            coefficient: input that multiplies it, a scalar function; None: none.
            constants: of the kernel.

        Raises:
            SponError: on all ranks: an input that cannot be the coefficient, or a form with several
                quadratures.
        """
        return describe(self, kernel, coefficient, constants)

    @cached_property
    def verified_physics(self) -> Physics | None:
        """`physics()`, after a comparison with the assembled residual. Collective at the first access.

        Raises:
            SponError: on all ranks: they differ.
        """
        physics = self.physics()
        if physics is not None:
            verify(self, physics)
        return physics

    @property
    def comm(self) -> MPI.Comm:
        """Communicator that the mesh is distributed over."""
        return self.hierarchy.finest.comm

    def ds(self, boundary: str) -> Any:
        """Return the UFL measure of a named boundary of the finest mesh."""
        return self.hierarchy.finest.ds(boundary)

    def dx(self, group: str) -> Any:
        """Return the UFL measure of a named group of cells of the finest mesh."""
        return self.hierarchy.finest.dx(group)

    @cached_property
    def space(self) -> Any:
        """Live space of u."""
        return self.make_space()

    @cached_property
    def order(self) -> CanonicalOrder:
        """Canonical order of the space of u."""
        return CanonicalOrder(self.hierarchy.finest, self.space)

    @cached_property
    def encoders(self) -> dict[str, Encoder]:
        """Encoder of each input."""
        mesh = self.hierarchy.finest
        return {
            name: value if isinstance(value, Encoder) else Dofs(mesh, value)
            for name, value in self.make_inputs().items()
        }

    @cached_property
    def constraint(self) -> Constraint:
        """What every output satisfies exactly."""
        return self.make_constraint()

    @cached_property
    def coefficients(self) -> Coefficients:
        """The inputs as UFL coefficients of the residual."""
        return Coefficients(self.encoders)

    @cached_property
    def discretisation(self) -> Discretisation:
        """The frozen arrays. Collective at the first access."""
        return discretise(
            self.hierarchy, self.space, self.constraint, self.encoders, zero_mean=self.make_zero_mean()
        )

    @cached_property
    def nodal_level(self) -> Level:
        """Level of the first-order Lagrange space on the finest mesh, to draw random fields on."""
        levels = self.discretisation.levels
        return levels[1 if levels[0].reference.degree > 1 else 0]

    def refined(self) -> Problem:
        """Return the same problem with one finer level, to measure the discretisation error."""
        other = copy.copy(self)
        for name in list(vars(other)):
            if isinstance(getattr(type(self), name, None), cached_property):
                del vars(other)[name]
        other.hierarchy = self.hierarchy.refined()
        return other

    def vector(self, inputs: Floats | Mapping[str, Any]) -> Floats:
        """Return inputs as one vector, (DoFs of all inputs,).

        Args:
            inputs: as `sample` returns them.

        Raises:
            SponError: names that differ, or vectors of the wrong length.
        """
        if not isinstance(inputs, Mapping):
            inputs = (
                dict.fromkeys(self.encoders, inputs) if len(self.encoders) == 1 else {"(one array)": inputs}
            )
        if set(inputs) != set(self.encoders):
            raise SponError(f"inputs {', '.join(inputs)}; allowed: {', '.join(self.encoders)}")
        parts = {name: np.asarray(inputs[name], dtype=np.float64).reshape(-1) for name in self.encoders}
        for name, values in parts.items():
            expected = self.coefficients.sizes[name]
            if len(values) != expected:
                raise SponError(f"input '{name}' has {len(values)} values; allowed: {expected}")
        return np.concatenate(list(parts.values()))

    # ----------------------------------------------------------------- solving

    def solve(self, m: Floats | Mapping[str, Any]) -> Floats:
        """Solve for one sample. Collective over `comm`.

        Args:
            m: inputs as `sample` returns them, the same on every rank of `comm`.

        Returns:
            (DoFs,) u in canonical order.

        Raises:
            SponError: the solver did not converge.
        """
        return self.solution(m).values

    def solution(self, m: Floats | Mapping[str, Any]) -> Solution:
        """Solve for one sample, with statistics. Collective over `comm`.

        Args:
            m: as for `solve`, or all inputs in one vector.

        Raises:
            SponError: the solver did not converge.
        """
        whole = self.coefficients.size
        vector = m if isinstance(m, np.ndarray) and m.shape == (whole,) else self.vector(m)
        start = time.perf_counter()
        self.coefficients.set(vector)
        values, statistics = self.system.solve(self.shift(vector))
        if self.discretisation.zero_mean is not None:
            values = self.discretisation.zero_mean(values)
        return Solution(values, statistics | {"seconds": time.perf_counter() - start})

    def shift(self, vector: Floats) -> Floats | None:
        """Return u_g (DoFs,) of a sample whose boundary data are inputs, else None."""
        if not self.boundary_data:
            return None
        parts = self.coefficients.split(vector)
        data = {boundary: parts[name][None] for name, boundary in self.boundary_data.items()}
        return self.discretisation.with_boundary_data(data)[0]

    @cached_property
    def system(self) -> LinearSystem | NonlinearSystem:
        """Forms, matrices and solver, made once and refilled for every sample."""
        return LinearSystem(self) if self.linear else NonlinearSystem(self)

    def make_solver(self, constant: bool) -> Any:
        """Return the linear solver that `solver_options` ask for.

        Args:
            constant: whether the matrix is the same for all samples; then nothing needs tuning.
        """
        options = self.solver_options
        if options == "recycled":
            return RecyclingSolver(self.order, self.constraint, rtol=_RECYCLED_RTOL, every=_RECYCLED_EVERY)
        if options != "tuned":
            assert not isinstance(options, str)
            return ConstrainedSolver(self.order, self.constraint, options)
        if constant:
            return ConstrainedSolver(self.order, self.constraint)
        definite = self.definite
        return TunedSolver(
            self.order, self.constraint, symmetric=definite, definite=definite, rtol=_TUNED_RTOL
        )
