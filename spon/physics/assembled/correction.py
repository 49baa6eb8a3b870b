"""Solve to a tolerance, from a prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from petsc4py import PETSc

from spon.errors import SponError, agree
from spon.physics.assembled.linearised import Linearised
from spon.physics.assembled.problem import Problem

__all__ = ["Corrected", "Correction"]

Floats = npt.NDArray[np.float64]
_LOOK = 3  # iterations of CG before its Ritz values say anything
_RITZ = 0.25  # share of the least Ritz value that the least eigenvalue is taken to exceed
_RESTARTS = 3
_PATIENCE = 4  # Newton corrections that may grow: in bending they do before they shrink
_Test = PETSc.KSP.ConvergedReason
_REASONS = {v: k for k, v in vars(_Test).items() if k.startswith("DIVERGED")}


@dataclass(frozen=True)
class Corrected:
    """A field within the tolerance.

    Args:
        values: (DoFs,) in canonical order, the same on every rank.
        iterations: of CG or of Newton's method, all that were made.
        bound: on its relative energy error, at most the tolerance.
        restarted: whether Newton's method failed from the prediction, and the problem was solved from zero.
        from_zero: iterations to the same tolerance from zero, if they were asked for.
    """

    values: Floats
    iterations: int
    bound: float
    restarted: bool = False
    from_zero: int | None = None


class Correction:
    """Solve until the relative error in the energy norm is below a tolerance, starting from predictions.

    Linear problems with a definite operator: conjugate gradients, preconditioned by one multigrid cycle B.
    In iteration k the energy error is at most (rᵀBr / μ)^½ for every μ ≤ λ_min(BA) (Meurant & Tichý
    2019, Numer. Algorithms 82, "Approximating the extreme Ritz values and upper bounds for the A-norm
    of the error in CG"); μ is a quarter of the least Ritz value, after three iterations at least, an
    estimate with a margin. The residual that decides in the end is assembled anew, not that of the
    recurrence.

    Other problems: Newton's method with factorisations. The field that is returned has the last Newton
    correction δ added, and 2‖δ‖ is the bound, right if later corrections at least halve (Deuflhard
    2011, Newton Methods for Nonlinear Problems, section 2.1); linear problems are solved in one step.
    ‖·‖ is the energy norm of the Jacobian, or for indefinite problems the norm of `Problem.riesz`.
    Where corrections keep growing, the problem is solved from zero, with its load steps.

    Call `destroy`, or use it in a `with` statement.

    Args:
        problem: any.
        tolerance: relative, between 0 and 1.
        method: "cg" or "newton"; default: "cg" where it is allowed.
        preconditioner: of CG: "multigrid" or "amg", see `spon.Preconditioner`.
        iterations: that may be made, ≥ 1.

    Raises:
        SponError: a value out of range; CG for a problem that is indefinite or nonlinear.
    """

    def __init__(
        self,
        problem: Problem,
        tolerance: float = 1e-3,
        method: str | None = None,
        preconditioner: str = "multigrid",
        iterations: int = 200,
    ) -> None:
        if not 0.0 < tolerance < 1.0:
            raise SponError(f"tolerance = {tolerance}; allowed: between 0 and 1")
        if iterations < 1:
            raise SponError(f"iterations = {iterations}; allowed: >= 1")
        if method not in (None, "cg", "newton"):
            raise SponError(f"method '{method}'; allowed: 'cg', 'newton'")
        allowed = problem.linear and problem.definite
        if method == "cg" and not allowed:
            lacks = "indefinite" if problem.linear else "nonlinear"
            raise SponError(f"CG for {type(problem).__name__}, which is {lacks}; allowed: method 'newton'")
        self.problem, self.tolerance, self.iterations = problem, tolerance, iterations
        self.method = method or ("cg" if allowed else "newton")
        self._share = tolerance / (
            1.0 + tolerance
        )  # of the norm of the field, for one of that of the solution
        if self.method == "cg":
            options = {"ksp_type": "cg", "ksp_norm_type": "natural", "ksp_initial_guess_nonzero": True}
            self._linearised = Linearised(problem, preconditioner, options=options)
            self._linearised.ksp.setComputeEigenvalues(True)
            self._linearised.ksp.setConvergenceTest(self._test)
        else:
            self._linearised = Linearised(problem, "direct")
        self._riesz = None if problem.definite else Linearised(problem, "direct", "riesz")
        self._least, self._bound = np.inf, np.inf

    def __call__(self, prediction: Floats, m: Floats, compare: bool = False) -> Corrected:
        """Correct one prediction. Collective.

        Args:
            prediction: (DoFs,) in canonical order, the same on every rank; what violates the constraint is
                left out.
            m: (DoFs of all inputs,).
            compare: whether to solve once more, from zero, to count the iterations that this takes.

        Raises:
            SponError: on all ranks: arrays of another shape or not finite; the tolerance could not be
                reached, with what was reached; CG met an operator that is not positive definite.
        """
        problem = self.problem
        with agree(problem.comm):
            for name, values, size in (
                ("prediction", prediction, problem.order.size),
                ("m", m, problem.coefficients.size),
            ):
                if np.shape(values) != (size,) or not np.isfinite(values).all():
                    raise SponError(f"{name} of shape {np.shape(values)}; allowed: ({size},), finite")
        shift = problem.shift(m)
        constraint = problem.constraint if shift is None else problem.constraint.with_shift(shift)
        solve = self._krylov if self.method == "cg" else self._newton
        found = solve(constraint.expand(constraint.free(prediction[None]))[0], m)
        if not compare:
            return found
        other = solve(constraint.shift, m)
        return Corrected(found.values, found.iterations, found.bound, found.restarted, other.iterations)

    # ---------------------------------------------------------------------- CG

    def _krylov(self, start: Floats, m: Floats) -> Corrected:
        """Solve A δ = −ZᵀF(u₀) by CG from zero: its errors are those of u₀ + Zδ."""
        lin, taken = self._linearised, 0
        form, ksp = lin.form, lin.ksp
        lin.at(start, m)
        lin.assemble()
        lin.rhs.scale(-1.0)
        rhs, work = lin.rhs.copy(), lin.x
        delta = rhs.duplicate()
        delta.set(0.0)
        self._least = np.inf
        try:
            for _ in range(_RESTARTS):
                ksp.setTolerances(max_it=max(1, self.iterations - taken))
                ksp.solve(rhs, delta)
                taken += ksp.getIterationNumber()
                reason = ksp.getConvergedReason()
                form.tangent.mult(delta, work)
                if "INDEFINITE" in _REASONS.get(reason, "") or delta.dot(work) < 0.0:
                    raise SponError(
                        "CG met an operator or preconditioner that is not positive definite; allowed: method "
                        "'newton'"
                    )
                form.residual(delta, lin.rhs)
                lin.precondition()
                bound = self._limit(math.sqrt(max(0.0, lin.rhs.dot(work))))
                if bound <= self._share:
                    Z = self.problem.constraint.Z
                    return Corrected(start + Z @ lin.gather(delta), taken, bound * (1 + self.tolerance))
                if reason < 0 or taken >= self.iterations:
                    break
        finally:
            rhs.destroy()
            delta.destroy()
        raise self._missed(bound, taken)

    def _test(self, ksp: PETSc.KSP, iteration: int, norm: float) -> Any:
        """Decide in an iteration of CG, whose (rᵀBr)^½ is given."""
        if norm == 0.0:
            return _Test.CONVERGED_ATOL
        if not math.isfinite(norm):
            return _Test.DIVERGED_NANORINF
        if iteration < _LOOK:
            return _Test.CONVERGED_ITERATING
        self._least = min(self._least, float(np.real(ksp.computeEigenvalues()).min()))
        self._linearised.form.set(ksp.buildSolution())
        if self._least <= 0.0:
            return _Test.DIVERGED_INDEFINITE_MAT
        small = self._limit(norm) <= self._share
        return _Test.CONVERGED_RTOL if small else _Test.CONVERGED_ITERATING

    def _limit(self, eta: float) -> float:
        """Return the bound on the error that η gives, relative to the field that was set last."""
        if eta == 0.0:
            return 0.0
        size = math.sqrt(max(0.0, self._linearised.form.energy()))
        error = eta / math.sqrt(_RITZ * self._least)
        return error / size if size > 0.0 else math.inf

    # ------------------------------------------------------------------ Newton

    def _newton(self, u: Floats, m: Floats) -> Corrected:
        """Correct by Newton's method; from zero where that does not contract."""
        taken, restarted, last, bound, grown = 0, False, math.inf, math.inf, 0
        while taken < self.iterations:
            found = self._step(u, m)
            taken += 1
            grown += found is None or not found[1] < last
            if found is None or grown > _PATIENCE:
                if restarted:
                    break
                solution = self.problem.solution(m)
                taken += int(solution.statistics.get("iterations", 1))
                u, restarted, last, grown = solution.values, True, math.inf, 0
                continue
            delta, last, size = found
            bound = 2.0 * last / size if 0.0 < size < math.inf else math.inf
            u = u + delta
            if bound <= self._share:
                return Corrected(u, taken, bound * (1 + self.tolerance), restarted)
        raise self._missed(bound, taken)

    def _step(self, u: Floats, m: Floats) -> tuple[Floats, float, float] | None:
        """Return Z δ, its norm (infinite for an indefinite tangent) and that of u; None: no such step."""
        lin, measure = self._linearised, self._riesz or self._linearised
        try:
            lin.at(u, m)
            lin.assemble()
            lin.rhs.scale(-1.0)
            lin.precondition()
        except SponError:
            return None  # a singular tangent, or cells that are turned over
        if not math.isfinite(lin.x.norm()):
            return None
        if self._riesz is not None:
            self._riesz.at(u, m)
        tangent, work = measure.form.tangent, lin.rhs
        tangent.mult(lin.x, work)
        squares = work.dot(lin.x), measure.form.energy()
        delta, size = (math.sqrt(s) if s >= 0.0 else math.inf for s in squares)
        return self.problem.constraint.Z @ lin.gather(lin.x), delta, size

    def _missed(self, bound: float, taken: int) -> SponError:
        return SponError(
            f"the tolerance {self.tolerance:g} was not reached: the relative energy error is at most "
            f"{bound:.3g} after {taken} iterations"
        )

    def destroy(self) -> None:
        """Free the PETSc objects. Collective; it cannot be used afterwards."""
        for one in (self._linearised, self._riesz):
            if one is not None:
                one.destroy()

    def __enter__(self) -> Correction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()
