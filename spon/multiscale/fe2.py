"""The macroscopic problem of a two-scale simulation, whatever answers at its points."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import ufl
from dolfinx import fem

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.assembly import assembled_vector
from spon.fem.boundary import BoundaryValue, dirichlet
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh
from spon.multiscale.macro_newton import LoadStep, MacroNewton, MacroState, NotConvergedError
from spon.multiscale.macro_points import MacroPoints
from spon.multiscale.macro_system import MacroSystem
from spon.multiscale.micro_calls import MicroCalls, NoAnswerError
from spon.multiscale.micromodel import MicroModel
from spon.multiscale.two_scale import TwoScaleSolution

__all__ = ["TwoScaleProblem"]

Floats = npt.NDArray[np.float64]


class TwoScaleProblem:
    """Small strains of a body whose material points ask a microscale: FE² or, with a surrogate, FE-OL.

    Find the admissible u with ∫ σ(ε(u)) · ε(v) = t ∫ T · v over the loaded boundaries, for loads t from 0
    to 1 that scale the prescribed displacements too. Newton's method with the tangents of the microscale; a
    step is shortened until the residual does at most 0.8 of its first work on it (Matthies and Strang 1979,
    Int. J. Numer. Meth. Engng 14). Each iteration makes one batched call on each rank, and one more for every
    time that it shortens the step. A load step that fails is halved.

    The problem keeps its matrices for any number of solves: call `destroy`, or use it in a `with` statement.

    Args:
        mesh: of a plane (plane strain) or a body.
        space: continuous vectors with a component for each dimension, such as `spon.lagrange(mesh, 2, 2)`.
        fixed: for each boundary its displacement, as for `spon.dirichlet`; or any `Constraint` on the space.
        tractions: for each boundary a force per area, in the unit of stress, numbers or a UFL vector.
        load_steps: equal steps, ≥ 1.
        degree: of the quadrature; default as in `MacroPoints`. Each point costs one answer of the microscale.
        options: PETSc options of the linear solver, as for `ConstrainedSolver`; default: a factorisation.
        rtol: size of the unbalanced forces, relative to the internal or external forces, the larger, where
            Newton's method stops.
        max_iterations: of Newton's method in a load step, ≥ 1.
        bisections: how many times in a row a load step may be halved, ≥ 0.

    Attributes:
        order: canonical order of the space.
        constraint: on it.
        points: `MacroPoints` of this rank.

    Raises:
        SponError: on all ranks: numbers out of range, unknown boundaries, tractions of a wrong length, a
            space of another kind.
    """

    def __init__(
        self,
        mesh: TaggedMesh,
        space: Any,
        fixed: Constraint | Mapping[str, BoundaryValue],
        tractions: Mapping[str, Any] | None = None,
        load_steps: int = 1,
        degree: int | None = None,
        options: dict[str, Any] | None = None,
        rtol: float = 1e-8,
        max_iterations: int = 25,
        bisections: int = 4,
    ) -> None:
        for name, value, least in (
            ("load_steps", load_steps, 1),
            ("max_iterations", max_iterations, 1),
            ("bisections", bisections, 0),
        ):
            if value < least:
                raise SponError(f"{name} = {value}; allowed: >= {least}")
        if not 0 < rtol < 1:
            raise SponError(f"rtol = {rtol}; allowed: between 0 and 1")
        self.mesh, self.space, self.comm = mesh, space, mesh.comm
        self.load_steps, self.rtol = load_steps, rtol
        self.max_iterations, self.bisections = max_iterations, bisections
        self.order = CanonicalOrder(mesh, space)
        self.points = MacroPoints(mesh, space, degree)
        self.constraint = fixed if isinstance(fixed, Constraint) else dirichlet(mesh, space, fixed)
        self._external = self._loads(tractions or {})
        self._system = MacroSystem(self.order, self.constraint, self.points, options)

    def _loads(self, tractions: Mapping[str, Any]) -> Floats:
        """Return the external forces at full load, (owned DoFs,)."""
        gdim, v = self.mesh.arrays.gdim, ufl.TestFunction(self.space)
        out = np.zeros(self.order.owned)
        for name, value in tractions.items():
            given = ufl.as_vector(list(value)) if isinstance(value, Sequence | np.ndarray) else value
            if ufl.shape(given) != (gdim,):
                raise SponError(f"the traction on '{name}' has shape {ufl.shape(given)}; allowed: ({gdim},)")
            vector = assembled_vector(ufl.dot(given, v) * self.mesh.ds(name))
            out += vector.array_r[: self.order.owned]
            vector.destroy()
        return out

    def solve(self, micromodel: MicroModel, say: Callable[[str], None] | None = None) -> TwoScaleSolution:
        """Solve from the unloaded state. Collective over the communicator of the mesh.

        Args:
            micromodel: answers at the points; the numbers that it gets as `where` are `points.numbers`.
            say: takes a line for each load step; called on every rank.

        Returns:
            The solution at full load.

        Raises:
            SponError: on all ranks, in one line: a point without an answer (says load step, point, strain),
                Newton's method did not converge (says load step, iterations, residual, the point of the
                largest strain), what the micromodel raises.
        """
        begun, system = time.perf_counter(), self._system
        system.assembly_seconds = system.solve_seconds = 0.0
        micro = MicroCalls(self.points, micromodel, self.comm)
        newton = MacroNewton(system, micro, self._external, self.rtol, self.max_iterations)
        state, steps = self._advance(newton, say)
        seconds = {
            "micro": micro.seconds,
            "assembly": system.assembly_seconds,
            "solve": system.solve_seconds,
            "total": time.perf_counter() - begun,
        }
        u = fem.Function(self.space)
        u.x.array[: self.order.owned] = state.values
        u.x.scatter_forward()
        reactions = state.internal - self._external
        return TwoScaleSolution(
            u, reactions, state.micro, self.points, self.order, tuple(steps), micro.calls, seconds
        )

    def _advance(
        self, newton: MacroNewton, say: Callable[[str], None] | None
    ) -> tuple[MacroState, list[LoadStep]]:
        """Go to full load, halving steps that fail."""
        try:
            state = newton.at_rest()
        except NoAnswerError as error:
            raise SponError(f"without load: {error}") from error
        steps: list[LoadStep] = []
        width, done, halved = Fraction(1, self.load_steps), Fraction(0), 0
        while done < 1:
            t = min(Fraction(1), done + width / 2**halved)
            try:
                state, step = newton.advance(state, float(t))
            except (NotConvergedError, NoAnswerError) as error:
                text = f"load step {len(steps) + 1} (load {float(t):.4g}): {error}"
                if halved == self.bisections:
                    raise SponError(
                        f"{text}; load reached: {float(done):.4g}, step halved {halved} times"
                    ) from error
                halved += 1
                if say is not None:
                    say(f"halved: {text}")
                continue
            done, halved = t, max(0, halved - 1)
            steps.append(step)
            if say is not None:
                say(str(step))
        return state, steps

    def destroy(self) -> None:
        """Free the PETSc objects. Collective; the problem cannot be solved afterwards."""
        self._system.destroy()

    def __enter__(self) -> TwoScaleProblem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()
