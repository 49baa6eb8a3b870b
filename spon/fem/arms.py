"""Solvers that a `TunedSolver` chooses among."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from spon.errors import SponError
from spon.fem.krylov import Krylov
from spon.fem.reduced import ReducedSystem

__all__ = ["Arm", "ArmSolver", "Attempt", "standard_arms"]

_FACTORISED = 200_000  # free DoFs; above, factors of a 3-D problem may not fit into memory
_SMALL = 20_000  # free DoFs; above, MUMPS is quicker than PETSc's own factorisation
_LAG = 8  # systems
_STEPS = 2000  # iterations
_LOOK = 4  # iterations between looks at the clock, on which all ranks have to agree
_QUARTER = 0.25  # of the time allowed, after which a slow arm shows
_FAR = 100.0  # times the time spent: no projection goes further
_Test = PETSc.KSP.ConvergedReason


@dataclass(frozen=True)
class Arm:
    """A named set of PETSc options.

    Args:
        name: in the log.
        options: of the KSP, without prefix. Tolerances are those of the `TunedSolver`.
        lag: number of systems that are solved with one preconditioner before the next is set up.
        shares: name of an arm before this one whose preconditioner this one uses, as old as it may be; it
            has to be a factorisation. Empty: it makes its own.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lag: int = 1
    shares: str = ""


def standard_arms(
    comm: Any,
    unknowns: int,
    dim: int,
    symmetric: bool,
    definite: bool,
    singular: bool,
    components: int = 1,
) -> list[Arm]:
    """Return arms for a kind of system, those that are usually quick first.

    Incomplete factors and relaxation act on the part of the matrix that a rank owns. Factorisations are among
    them up to 200,000 unknowns. GCRO-DR, which recycles a Krylov space, is there where PETSc has HPDDM and A
    is not definite.

    Args:
        comm: communicator of the mesh.
        unknowns: free DoFs.
        dim: of the mesh.
        symmetric: whether A is.
        definite: whether the symmetric part of A is, but for a nullspace.
        singular: whether there is a nullspace.
        components: of the unknown; BoomerAMG is for one.
    """
    factors = _factorisations(comm, unknowns, dim, symmetric, definite, singular)
    amg = {"pc_type": "hypre", "pc_hypre_type": "boomeramg"}
    if dim == 3:
        amg["pc_hypre_boomeramg_strong_threshold"] = "0.5"
    iterative: list[Arm] = []
    if symmetric and definite:
        krylov: dict[str, Any] = {"ksp_type": "cg"}
        sor = {"pc_type": "sor", "pc_sor_local_symmetric": True, "pc_sor_omega": 1.6}
        iterative = [
            *([Arm("cg+boomeramg", krylov | amg)] if components == 1 else []),
            Arm("cg+icc", krylov | {"pc_type": "bjacobi", "sub_pc_type": "icc"}),
            Arm("cg+ssor", krylov | sor),
        ]
        if not factors:
            iterative.append(Arm("cg+gamg, lagged", krylov | {"pc_type": "gamg"}, lag=_LAG))
    else:
        krylov = {"ksp_type": "gmres", "ksp_gmres_restart": 40}
        ilu = {"pc_type": "bjacobi", "sub_pc_type": "ilu"}
        if definite:
            iterative = [Arm("gmres+boomeramg", krylov | amg)] if components == 1 else []
            iterative.append(Arm("bicgstab+ilu", {"ksp_type": "bcgs"} | ilu))
        iterative.append(Arm("gmres+ilu", krylov | ilu))
    lagged = []
    if factors:
        name, shared = str(krylov["ksp_type"]), factors[-1].name  # PETSc's own is quicker to apply than MUMPS
        lagged = [Arm(f"{name}, lagged {shared}", krylov, lag=_LAG, shares=shared)]
        if not definite and _has_hpddm(comm):
            recycled = {"ksp_type": "hpddm", "ksp_hpddm_type": "gcrodr", "ksp_hpddm_recycle": 20}
            restart = {"ksp_gmres_restart": 40, "ksp_hpddm_variant": "right"}
            lagged.append(Arm(f"gcrodr, lagged {shared}", recycled | restart, lag=_LAG, shares=shared))
    if (
        dim == 3 and definite and components == 1 and unknowns > _SMALL
    ):  # fill-in grows faster than in the plane
        return [iterative[0], *factors, *iterative[1:], *lagged]
    return [*factors, *lagged, *iterative] if not definite else [*factors, *iterative, *lagged]


def _factorisations(
    comm: Any, unknowns: int, dim: int, symmetric: bool, definite: bool, singular: bool
) -> list[Arm]:
    if unknowns > _FACTORISED:
        return []
    kind = "cholesky" if symmetric else "lu"
    once: dict[str, Any] = {"ksp_type": "preonly", "pc_type": kind}
    mumps: dict[str, Any] = {"pc_factor_mat_solver_type": "mumps"}
    if singular:
        mumps["mat_mumps_icntl_24"] = 1
    arms = [Arm(f"{kind}, mumps", once | mumps)]
    pivots = symmetric and not definite  # PETSc's own has none
    if comm.size == 1 and not singular and not pivots and unknowns <= _SMALL:
        arms.append(Arm(kind, once | {"pc_factor_mat_ordering_type": "nd"}))
    return arms


def _has_hpddm(comm: Any) -> bool:
    ksp = PETSc.KSP().create(comm)
    try:
        ksp.setType("hpddm")
    except PETSc.Error:
        return False
    finally:
        ksp.destroy()
    return True


@dataclass(frozen=True)
class Attempt:
    """What an arm did with a system; the same on all ranks.

    Args:
        setup: seconds to set up the preconditioner, of the slowest rank.
        iterating: seconds after that.
        charge: `iterating` and the set-up's share of this system, `setup / lag`; where an arm that lags made
            its preconditioner, all: it flatters the arm when it is fresh.
        iterations: of the Krylov method.
        failure: why there is no solution; empty if there is one.
        broken: PETSc raised an error: the arm cannot be used again.
        stopped: seconds that the solve would have taken, or more than which; 0 if it was not stopped.
    """

    setup: float
    iterating: float
    charge: float
    iterations: int
    failure: str
    broken: bool = False
    stopped: float = 0.0


class ArmSolver:
    """A Krylov solver of one arm. Collective; call `destroy`.

    Args:
        comm: communicator of the system.
        arm: its options.
        lender: the solver whose preconditioner the arm shares; None: it has its own.

    Raises:
        SponError: options that PETSc refuses.
    """

    def __init__(self, comm: Any, arm: Arm, lender: ArmSolver | None = None) -> None:
        self.comm, self.arm, self._lender = comm, arm, lender
        options = dict(arm.options)
        if options.get("ksp_type") != "preonly":  # the residual itself, not preconditioned
            options = {"ksp_norm_type": "unpreconditioned"} | options
        self._krylov = Krylov(comm, options)
        self._krylov.ksp.setTolerances(max_it=_STEPS)
        self._krylov.ksp.setConvergenceTest(self._test)
        if lender is not None:
            self._krylov.ksp.setPC(lender._krylov.ksp.getPC())
        elif arm.lag > 1:
            self._krylov.ksp.getPC().setUseAmat(False)  # multigrid's finest level, too, is the copy
        self._kept: PETSc.Mat | None = None
        self._made, self._setup = 0, 0.0  # version of the system that the preconditioner is of

    def attempt(self, system: ReducedSystem, target: float, seconds: float, early: bool = False) -> Attempt:
        """Try to solve a system. Collective.

        Args:
            system: loaded.
            target: residual norm at which to stop.
            seconds: after which to give up; a set-up is not interrupted.
            early: whether to give up after a quarter of that time already, if the residual has fallen
                so slowly that the whole solve would take twice as long.
        """
        owner = self if self._lender is None else self._lender
        due = owner._made == 0 or system.version - owner._made >= self.arm.lag
        self._target, self._seconds, self._early = target, seconds, early
        failure, broken, start = "", False, time.perf_counter()
        self._start, self._projected, middle = start, 0.0, start
        try:
            if self.arm.lag > 1 and self._lender is None and due:
                self._keep(system)
            owner._krylov.reuse(not due)
            self._krylov.attach(system, self._kept)
            if due:
                owner._krylov.set_up(system)
            middle = self._iterating = time.perf_counter()
            self._krylov.solve(system)
            late = f"stopped: it would have taken {self._projected:.3g} s or more"
            failure = late if self._projected else self._krylov.failure()
        except (SponError, PETSc.Error) as error:
            failure, broken = str(error).splitlines()[0], True
        times = np.array([middle - start, time.perf_counter() - middle, float(broken)])
        self.comm.Allreduce(MPI.IN_PLACE, times, MPI.MAX)
        setup, iterating, broken = float(times[0]), float(times[1]), bool(times[2])
        if due:
            owner._made, owner._setup = system.version, setup
        if (failure and not self._projected) or broken:
            owner._made = 0
        share = setup if due or self.arm.lag == 1 else owner._setup / self.arm.lag
        steps = 0 if broken else self._krylov.ksp.getIterationNumber()
        reason = failure or ("PETSc error on another rank" if broken else "")
        return Attempt(setup, iterating, share + iterating, steps, reason, broken, self._projected)

    def _keep(self, system: ReducedSystem) -> None:
        """Copy the matrix for the preconditioner to be made of.

        PETSc's own way to keep a preconditioner leaves multigrid with bounds of the old matrix for smoothers
        of the new one: indefinite if the coefficients grew.
        """
        matrix = system.matrix
        if self._kept is not None:
            matrix.copy(self._kept, structure=PETSc.Mat.Structure.SAME_NONZERO_PATTERN)
            return
        self._kept = matrix.duplicate(copy=True)
        for found, give in (
            (matrix.getNullSpace(), self._kept.setNullSpace),
            (matrix.getNearNullSpace(), self._kept.setNearNullSpace),
        ):
            if found.handle:
                give(found)

    def _test(self, ksp: PETSc.KSP, step: int, residual: float) -> int:
        if residual <= self._target:
            return int(_Test.CONVERGED_RTOL)
        if not np.isfinite(residual):
            return int(_Test.DIVERGED_NANORINF)
        if step == 0:
            self._first = residual
        elif step % _LOOK == 0 and np.isfinite(self._seconds):
            self._projected = float(self.comm.allreduce(self._late(residual), MPI.MAX))
            if self._projected:
                return int(_Test.DIVERGED_MAX_IT)
        return int(_Test.ITERATING)

    def _late(self, residual: float) -> float:
        """Seconds that the solve would take if it is to be stopped, else 0."""
        now = time.perf_counter()
        spent, limit = now - self._start, self._seconds
        if spent > limit or (self._early and spent > _QUARTER * limit):
            fallen, wanted = np.log(self._first / residual), np.log(self._first / self._target)
            steps = wanted / fallen if fallen > 0 else np.inf
            whole = self._iterating - self._start + (now - self._iterating) * min(steps, _FAR)
            if spent > limit or whole > 2.0 * limit:
                return float(max(whole, limit))
        return 0.0

    def destroy(self) -> None:
        """Free the KSP and the matrix that was kept. Collective."""
        self._krylov.destroy()
        if self._kept is not None:
            self._kept.destroy()
