"""A solver that finds out which method is quickest for the systems that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.arms import Arm, ArmSolver, Attempt, standard_arms
from spon.fem.canonical import CanonicalOrder
from spon.fem.krylov import direct
from spon.fem.reduced import ReducedSystem
from spon.selection import Selection

__all__ = ["ArmTotal", "SolveRecord", "TunedSolver"]

Floats = npt.NDArray[np.float64]
_PATIENCE = 10.0  # times the usual cost after which the quickest arm is stopped: systems differ
_TRIAL = 1.5  # times the usual cost after which another one is
_STALL = 0.02  # seconds: less may be a whim of the operating system
_GRACE = 0.003  # seconds that a trial has anyway
_ROUNDING = 16 * np.finfo(np.float64).eps
_SINGULAR = 1e-6  # of the right-hand side: rounding leaves more only where the matrix is singular


@dataclass(frozen=True)
class SolveRecord:
    """How one system was solved; the same on all ranks.

    Args:
        system: its number, from 0.
        arm: tried first; empty if no arm was left.
        solver: that delivered the solution: `arm`, or if that did not, the quickest of the others, or
            "last resort", a factorisation.
        seconds: of both, set-up included, of the slowest rank; reduction of the system excluded.
        iterations: of the arm.
        residual: ‖Zᵀ (b − A u)‖ / ‖Zᵀ (b − A u_g)‖, measured afterwards.
        failure: why the arm did not do; empty if it did.
    """

    system: int
    arm: str
    solver: str
    seconds: float
    iterations: int
    residual: float
    failure: str


@dataclass(frozen=True)
class ArmTotal:
    """What an arm did in all: `systems` tried, `failures` among them, `seconds` and `iterations`."""

    systems: int
    failures: int
    seconds: float
    iterations: int


class TunedSolver:
    """Solve many systems like `ConstrainedSolver`, each by a method that was quick for the others.

    After each arm was tried once or twice, `spon.selection.Selection` draws them by their wall times,
    set-up of the preconditioner included (after M. Khodak et al., "Learning to relax", ICLR 2024, who
    tune ω by a Tsallis bandit). All arms share one reduced matrix. An iterative arm is stopped as soon as it
    is clear that it takes longer than one and a half times the quickest arm, which then solves the system;
    the quickest itself, at ten times its usual time. Whatever the arm, the residual is
    measured: solutions agree to the tolerance, not to the last bit, and which arm solves which system
    varies from run to run with the clock. Each arm keeps what its preconditioner has set up: memory for
    several factorisations.

    Args:
        order: canonical order of the space.
        constraint: what the solution satisfies.
        arms: to choose among, tried in this order; default: `spon.fem.arms.standard_arms`.
        nullspace: as in `ConstrainedSolver`.
        near_nullspace: as in `ConstrainedSolver`.
        symmetric: whether A is symmetric.
        definite: whether the symmetric part of A is positive definite, but for the nullspace.
        rtol: the residual is at most this times the right-hand side, or what rounding of A û leaves.
        seed: of the choices.

    Attributes:
        log: a `SolveRecord` for each system.
        dropped: reasons by name of arms that PETSc cannot set up here.

    Raises:
        SponError: what `ConstrainedSolver` refuses; arms of the same name; a tolerance out of range.
    """

    def __init__(
        self,
        order: CanonicalOrder,
        constraint: Constraint,
        arms: Sequence[Arm] | None = None,
        nullspace: str | Floats | None = None,
        near_nullspace: Floats | None = None,
        symmetric: bool = True,
        definite: bool = True,
        rtol: float = 1e-10,
        seed: int = 0,
    ) -> None:
        if not 0.0 < rtol < 1.0:
            raise SponError(f"rtol {rtol}; allowed: above 0, below 1")
        comm, free = order.mesh.comm, constraint.Z.shape[1]
        singular = nullspace is not None
        if arms is None:
            dim = order.mesh.dolfinx.topology.dim
            components = order.space.dofmap.bs
            arms = standard_arms(comm, free, dim, symmetric, definite, singular, components)
        names = [arm.name for arm in arms]
        if len({*names}) < len(names) or "last resort" in names or any(arm.lag < 1 for arm in arms):
            raise SponError(
                f"arms {names}; allowed: names that differ, not 'last resort', and lags of at least 1"
            )
        self.order, self.constraint, self.comm, self.rtol = order, constraint, comm, rtol
        self.log: list[SolveRecord] = []
        self.dropped: dict[str, str] = {}
        self.system = ReducedSystem(order, constraint, nullspace, near_nullspace)
        self._solvers: list[ArmSolver] = []
        for arm in arms:
            try:
                self._solvers.append(ArmSolver(comm, arm, self._lender(arm)))
            except SponError as error:
                self.dropped[arm.name] = str(error)
        self._selection = Selection(max(1, len(self._solvers)), seed, _STALL)
        if not self._solvers:
            self._selection.drop(0)
        self._last_resort = ArmSolver(comm, Arm("last resort", direct(comm, singular)))

    def solve(self, matrix: PETSc.Mat, rhs: PETSc.Vec, shift: Floats | None = None) -> Floats:
        """Solve one system. Collective over the communicator of the space.

        Args:
            matrix: A, assembled without boundary conditions, the same sparsity at every call.
            rhs: b, assembled and accumulated, without boundary conditions.
            shift: (DoFs,) u_g in canonical order; default: that of the constraint.

        Returns:
            (owned DoFs,) values of u in DOLFINx's local order.

        Raises:
            SponError: sizes that do not fit; a right-hand side that is not finite; no solver
                reached the tolerance.
        """
        self.system.load(matrix, rhs, shift)
        return self.solve_loaded()

    def solve_loaded(self) -> Floats:
        """Solve what `system` holds. Collective.

        Returns:
            As `solve`.

        Raises:
            SponError: a right-hand side that is not finite; no solver reached the tolerance.
        """
        size = float(self.system.rhs.norm())
        if not np.isfinite(size):
            raise SponError("the linear solver did not start: the right-hand side is not finite")
        number = self._selection.choose()
        name, seconds, steps, failure, residual = "", 0.0, 0, "no arm is left", np.inf
        if number is not None:
            name = self._solvers[number].arm.name
            early = number != self._selection.best
            tried = self._solvers[number].attempt(self.system, self.rtol * size, self._budget(early), early)
            failure, residual = self._verdict(tried, size)
            seconds, steps = tried.setup + tried.iterating, tried.iterations
        solver, trouble = name, failure
        reasons = [f"{name or '-'}: {failure}"]
        for rescuer in self._rescuers(number) if failure else []:
            rescue = rescuer.attempt(self.system, self.rtol * size, np.inf)
            solver = rescuer.arm.name
            trouble, residual = self._verdict(rescue, size)
            seconds += rescue.setup + rescue.iterating
            if not trouble:
                break
            reasons.append(f"{solver}: {trouble}")
        if trouble:
            raise SponError(f"no solver reached the tolerance: {'; '.join(reasons)}")
        if number is not None:
            self._tell(number, tried, failure, seconds)
        left = residual / size if size else 0.0
        self.log.append(SolveRecord(len(self.log), name, solver, seconds, steps, left, failure))
        return self.system.solution()

    @property
    def arms(self) -> list[Arm]:
        """Those that are in use, in the order of their numbers in `statistics`."""
        return [solver.arm for solver in self._solvers]

    @property
    def statistics(self) -> dict[str, float]:
        """Iterations, relative residual and number of the arm of the last solve; −1 for the last resort."""
        last = self.log[-1]
        names = [arm.name for arm in self.arms]
        number = names.index(last.solver) if last.solver in names else -1
        return {"iterations": float(last.iterations), "residual": last.residual, "arm": float(number)}

    @property
    def costs(self) -> dict[str, float]:
        """Seconds that a system takes by each arm that was tried here, by its name."""
        names = [solver.arm.name for solver in self._solvers]
        own = self._selection.own[: len(names)]
        return {name: float(cost) for name, cost in zip(names, own, strict=True) if np.isfinite(cost)}

    @property
    def untried(self) -> bool:
        """Whether there are arms of which no cost is known, so that `learn` may spare a trial."""
        return self._selection.untried

    def learn(self, costs: Mapping[str, float]) -> None:
        """Take over costs that others have measured for like systems. The same on all ranks.

        Args:
            costs: seconds by name of the arm, as in `costs` of theirs.
        """
        if self._solvers:
            names = [solver.arm.name for solver in self._solvers]
            self._selection.learn(np.array([costs.get(name, np.nan) for name in names]))

    def divide_trials(self, index: int, groups: int) -> None:
        """Try the first arm, then a share of the others, then the rest, unless others were quicker to.

        Args:
            index: of this solver among those that share their costs.
            groups: number of these.
        """
        others = range(1, len(self._solvers))
        mine = [arm for arm in others if arm % groups == index]
        self._selection.order([0, *mine, *(arm for arm in others if arm not in mine)])

    def _lender(self, arm: Arm) -> ArmSolver | None:
        for solver in self._solvers:
            if solver.arm.name == arm.shares:
                return solver
        if arm.shares:
            raise SponError(
                f"arm '{arm.name}' shares the preconditioner of '{arm.shares}', which is not there"
            )
        return None

    def _rescuers(self, failed: int | None) -> list[ArmSolver]:
        best = self._selection.best
        others = [] if best is None or best == failed else [self._solvers[best]]
        return [*others, self._last_resort]

    def _budget(self, early: bool) -> float:
        usual = self._selection.usual
        return max(_TRIAL * usual, _GRACE) if early else max(_PATIENCE * usual, _STALL)

    def _verdict(self, tried: Attempt, size: float) -> tuple[str, float]:
        """Return why the present û is no solution (empty if it is one) and the norm of its residual."""
        if tried.failure:
            return tried.failure, np.inf
        left = self.system.residual()
        if left <= 1.5 * self.rtol * size:  # methods update their residual: the true one drifts from it
            return "", left
        bound = self.system.matrix.norm(PETSc.NormType.NORM_INFINITY) * self.system.x.norm()
        if left <= self.rtol * size + min(_ROUNDING * bound, _SINGULAR * size):
            return "", left
        return f"residual norm {left:.3g}, right-hand side {size:.3g}", left

    def _tell(self, number: int, tried: Attempt, failure: str, seconds: float) -> None:
        if tried.stopped:
            self._selection.slow(tried.stopped)
        elif failure:
            self._selection.failure(seconds)
        else:
            # the first factorisation orders the unknowns too, which the others need not
            once = self._solvers[number].arm.options.get("ksp_type") == "preonly"
            self._selection.cost(tried.charge, recurs=not once)
        if tried.broken:
            self.dropped[self._solvers[number].arm.name] = failure
            self._selection.drop(number)

    def totals(self) -> dict[str, ArmTotal]:
        """Return what each arm did so far, by its name; seconds include those of the last resort after it."""
        out = {}
        for name in [solver.arm.name for solver in self._solvers]:
            mine = [record for record in self.log if record.arm == name]
            out[name] = ArmTotal(
                len(mine),
                sum(bool(record.failure) for record in mine),
                sum(record.seconds for record in mine),
                sum(record.iterations for record in mine),
            )
        return out

    def destroy(self) -> None:
        """Free the PETSc objects. Collective; the solver cannot be used afterwards."""
        for solver in (*self._solvers, self._last_resort):
            solver.destroy()
        self.system.destroy()

    def __enter__(self) -> TunedSolver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()
