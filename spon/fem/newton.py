"""Newton's method on the admissible functions of a constraint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError, agree
from spon.fem.canonical import CanonicalOrder
from spon.fem.petsc_options import PrefixedOptions
from spon.fem.reduced import ReducedForm
from spon.fem.solver import direct

__all__ = ["NewtonSolver", "NewtonStatistics"]

Floats = npt.NDArray[np.float64]
_REASONS = {v: k for k, v in vars(PETSc.SNES.ConvergedReason).items() if k.startswith(("DIV", "CONV"))}
_DEFAULTS = {"snes_type": "newtonls", "snes_linesearch_type": "bt", "snes_max_it": 25, "snes_stol": 1e-10}
_STALLED = 1e-6  # of the first residual: vanishing steps count as convergence only below this
_SAME = 1e-14  # relative change of boundary data that is round-off


@dataclass(frozen=True)
class NewtonStatistics:
    """What one solve took.

    Args:
        iterations: Newton steps, those of failed load steps included.
        steps: load steps that converged.
        bisections: load steps that failed and were halved.
        seconds: wall time.
        norms: Euclidean norms of Zᵀ F before each Newton step of the last load step, and after the last.
        reason: PETSc's name for the reason of convergence.
    """

    iterations: int
    steps: int
    bisections: int
    seconds: float
    norms: tuple[float, ...]
    reason: str


class NewtonSolver:
    """Solve Zᵀ F(Z û + u_g) = 0 by PETSc's SNES, with the Z that the network decodes with.

    Forms, matrices and linear solver are made once and used for every sample; coefficients and
    constants in the forms have the values of the moment of `solve`. Where u_g changes, the first step is the
    tangent at the old state, ZᵀJZ δû = −Zᵀ(F + J δu_g), so that new boundary data spread over the body
    at once and do not fold the cells at the boundary.

    Call `destroy`, or use the solver in a `with` statement, as for `ConstrainedSolver`.

    Args:
        order: canonical order of the space.
        constraint: what the solution satisfies.
        residual: F(u; v) as a UFL form, from the live unknown and a test function.
        jacobian: F'(u; δu, v), from the unknown, a trial and a test function; default: UFL's derivative.
        options: PETSc options of SNES and its KSP, without prefix, such as `{"snes_rtol": 1e-8, "ksp_type":
            "cg", "pc_type": "hypre", "ksp_rtol": 1e-8}`; they are added to newtonls with the line search bt,
            and to a factorisation unless they choose a KSP or PC.
        load: sets the loads in F to the share t of the final ones, 0 < t ≤ 1; called on every rank before
            each load step.
        bisections: how many times in a row a load step may be halved, ≥ 0.

    Attributes:
        function: the live unknown; after `solve` the solution, ghosts up to date.
        statistics: of the last solve that succeeded.

    Raises:
        SponError: a constraint on another number of DoFs; options that PETSc refuses.
    """

    def __init__(
        self,
        order: CanonicalOrder,
        constraint: Constraint,
        residual: Callable[[Any, Any], Any],
        jacobian: Callable[[Any, Any, Any], Any] | None = None,
        options: dict[str, Any] | None = None,
        load: Callable[[float], None] | None = None,
        bisections: int = 6,
    ) -> None:
        if bisections < 0:
            raise SponError(f"bisections = {bisections}; allowed: >= 0")
        self.order, self.constraint, self.comm = order, constraint, order.mesh.comm
        self.load, self.bisections = load, bisections
        self.statistics: NewtonStatistics | None = None
        self._form = ReducedForm(order, constraint, residual, jacobian)
        self.function = self._form.function
        self._norms: list[float] = []
        self._change = self._form.shift.duplicate()
        self._rhs, self._step = self._form.x.duplicate(), self._form.x.duplicate()
        self.snes = PETSc.SNES().create(self.comm)
        self.snes.setFunction(lambda snes, x, out: self._form.residual(x, out), self._rhs)
        self.snes.setJacobian(lambda snes, x, J, P: self._form.linearise(x), self._form.tangent)
        self.snes.setMonitor(lambda snes, number, norm: self._norms.append(norm))
        given = options or {}
        linear = {} if any(key.startswith(("ksp_", "pc_")) for key in given) else direct(self.comm)
        self._options = PrefixedOptions(self.snes, _DEFAULTS | linear | given)
        try:
            self._options.apply()
        except SponError:
            self.destroy()
            raise
        self._rtol, self._atol = self.snes.rtol, self.snes.atol

    def solve(self, shift: Floats | None = None, guess: Floats | None = None, steps: int = 1) -> Floats:
        """Solve for one sample. Collective over the communicator of the space.

        The load goes from 0 to 1 in equal steps, and with it the boundary data from those of the guess to
        u_g; a step that does not converge is halved.

        Args:
            shift: (DoFs,) u_g in canonical order; default: that of the constraint.
            guess: (DoFs,) where to start, in canonical order; default: zero.
            steps: number of load steps, ≥ 1.

        Returns:
            (owned DoFs,) values of u in DOLFINx's local order.

        Raises:
            SponError: on all ranks: arrays of the wrong length or not finite; a bad number of steps; no
                convergence, with PETSc's reason and the load reached.
        """
        begun = time.perf_counter()
        with agree(self.comm):
            target, free, start = self._checked(shift, guess, steps)
        form, owned = self._form, slice(self.order.owned)
        form.x.array_w[:] = free[form.columns]
        form.shift.array_w[:] = self.order.to_live(start)[owned]
        varies = self.load is not None or not _same(target, start)
        width = Fraction(1, steps if varies else 1)
        done, halved, taken, failed, iterations = Fraction(0), 0, 0, 0, 0
        while done < 1:
            kept = np.array(form.x.array_r), np.array(form.shift.array_r)
            t = min(Fraction(1), done + width / 2**halved)
            data = target if t == 1 else start + float(t) * (target - start)
            reason = self._advance(float(t), self.order.to_live(data)[owned])
            iterations += max(0, len(self._norms) - 1)
            if reason.startswith("CONVERGED"):
                done, taken, halved = t, taken + 1, max(0, halved - 1)
                continue
            form.x.array_w[:], form.shift.array_w[:] = kept
            if not varies or halved == self.bisections:
                norms = self._norms or [np.nan]  # PETSc reports none where the first is not finite
                raise SponError(
                    f"Newton's method did not converge: {reason} after {len(norms) - 1} iterations at load "
                    f"{float(t):.4g}, residual norm {norms[-1]:.3g}, first {norms[0]:.3g}; load reached: "
                    f"{float(done):.4g}, steps halved: {failed}"
                )
            failed, halved = failed + 1, halved + 1
        form.set(form.x)
        seconds = time.perf_counter() - begun
        self.statistics = NewtonStatistics(iterations, taken, failed, seconds, tuple(self._norms), reason)
        return np.array(self.function.x.array[owned])

    def _checked(
        self, shift: Floats | None, guess: Floats | None, steps: int
    ) -> tuple[Floats, Floats, Floats]:
        """Return u_g, the û of the guess, and the u_g of the guess."""
        target = np.asarray(self.constraint.shift if shift is None else shift, dtype=np.float64)
        start = np.asarray(np.zeros(self.order.size) if guess is None else guess, dtype=np.float64)
        for what, values in (("shift", target), ("guess", start)):
            if values.shape != (self.order.size,) or not np.isfinite(values).all():
                raise SponError(f"{what} of shape {values.shape}; allowed: ({self.order.size},), finite")
        if steps < 1:
            raise SponError(f"steps = {steps}; allowed: >= 1")
        free = self.constraint.with_shift(target).free(start[None])[0]
        return target, free, start - self.constraint.Z @ free

    def _advance(self, t: float, shift: Floats) -> str:
        """Solve one load step from the state in û and u_g; return PETSc's name for the outcome."""
        form, snes = self._form, self.snes
        self._norms.clear()
        if self.load is not None:
            with agree(self.comm):
                self.load(t)
        self._change.array_w[:] = shift - form.shift.array_r
        size = form.shift.norm(PETSc.NormType.INFINITY)
        rtol, atol = self._rtol, self._atol
        try:
            moved = self._change.norm(PETSc.NormType.INFINITY)
            if moved > _SAME * (size + moved):
                if not self._follow():
                    return "DIVERGED_LINEAR_SOLVE"
                rtol, atol = 0.0, max(atol, rtol * self._norms[0], form.round_off())
            form.shift.array_w[:] = shift
            snes.setTolerances(rtol=rtol, atol=atol)
            snes.solve(None, form.x)
        except PETSc.Error as error:
            raise SponError(f"Newton's method failed: PETSc error {error.ierr}") from error
        finally:
            self._options.forget()
        reason = _REASONS.get(snes.getConvergedReason(), "DIVERGED")
        if "SNORM" in reason and self._norms[-1] > max(_STALLED * self._norms[0], 100 * form.round_off()):
            return "DIVERGED_LINE_SEARCH"  # vanishing steps far from a solution
        return reason

    def _follow(self) -> bool:
        """Take the tangent step of û for the new u_g; False where that failed."""
        form, ksp = self._form, self.snes.ksp
        form.predict(self._change, self._rhs)
        self._norms.append(self._rhs.norm())
        if not np.isfinite(self._norms[0]):
            return False
        ksp.setOperators(form.tangent)
        ksp.solve(self._rhs, self._step)
        form.x.axpy(1.0, self._step)
        return bool(ksp.getConvergedReason() > 0 and np.isfinite(form.x.norm()))

    def destroy(self) -> None:
        """Free the PETSc objects. Collective; the solver cannot be used afterwards."""
        self._options.forget()
        for one in (self.snes, self._change, self._rhs, self._step, self._form):
            one.destroy()
        PETSc.garbage_cleanup(self.comm)

    def __enter__(self) -> NewtonSolver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()


def _same(one: Floats, other: Floats) -> bool:
    return bool(np.abs(one - other).max() <= _SAME * max(np.abs(one).max(), np.abs(other).max()))
