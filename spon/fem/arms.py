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
from spon.fem.krylov import Krylov, direct
from spon.fem.reduced import ReducedSystem

__all__ = ["Arm", "ArmSolver", "Attempt", "standard_arms"]

_FACTORISED = 200_000  # free DoFs; above, factors of a 3-D problem may not fit into memory
_STEPS = 2000  # iterations
_LOOK = 8  # iterations between looks at the clock, on which all ranks have to agree
_Test = PETSc.KSP.ConvergedReason


@dataclass(frozen=True)
class Arm:
    """A named set of PETSc options.

    Args:
        name: in the log.
        options: of the KSP, without prefix. Tolerances are those of the `TunedSolver`.
        lag: number of systems that are solved with one preconditioner before the next is set up.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lag: int = 1


def standard_arms(
    comm: Any, unknowns: int, dim: int, symmetric: bool, definite: bool, singular: bool
) -> list[Arm]:
    """Return arms for a kind of system, those that are usually quick first.

    Incomplete factors and relaxation act on the part of the matrix that a rank owns. Factorisations are among
    them up to 200,000 unknowns.

    Args:
        comm: communicator of the mesh.
        unknowns: free DoFs.
        dim: of the mesh.
        symmetric: whether A is.
        definite: whether the symmetric part of A is, but for a nullspace.
        singular: whether there is a nullspace.
    """
    own = {} if comm.size > 1 or singular else {"pc_factor_mat_ordering_type": "nd"}
    mumps: dict[str, Any] = {"pc_factor_mat_solver_type": "mumps"}
    if singular:
        mumps["mat_mumps_icntl_24"] = 1
    factor = own or mumps
    amg = {"pc_type": "hypre", "pc_hypre_type": "boomeramg"}
    if dim == 3:
        amg["pc_hypre_boomeramg_strong_threshold"] = "0.5"
    once: dict[str, Any] = {"ksp_type": "preonly"}
    if symmetric and definite:
        cg: dict[str, Any] = {"ksp_type": "cg"}
        arms = [Arm("cg+boomeramg", cg | amg), Arm("cg+gamg, lagged", cg | {"pc_type": "gamg"}, lag=8)]
        arms.insert(1, Arm("cg+icc", cg | {"pc_type": "bjacobi", "sub_pc_type": "icc"}))
        for omega in ("1.6", "1.9", "1.0"):
            sor = {"pc_type": "sor", "pc_sor_local_symmetric": True, "pc_sor_omega": omega}
            arms.append(Arm(f"cg+ssor, omega {omega}", cg | sor))
        factors: dict[str, Any] = {"pc_type": "cholesky"}
        lagged = Arm("cg+cholesky, lagged", cg | factors | factor, lag=8)
    else:
        gmres: dict[str, Any] = {"ksp_type": "gmres", "ksp_gmres_restart": 40}
        ilu = {"pc_type": "bjacobi", "sub_pc_type": "ilu"}
        arms = [Arm("gmres+boomeramg", gmres | amg)] if definite else []
        arms += [Arm("gmres+ilu", gmres | ilu), Arm("bicgstab+ilu", {"ksp_type": "bcgs"} | ilu)]
        factors = {"pc_type": "lu"}
        lagged = Arm("gmres+lu, lagged", gmres | factors | factor, lag=8)
        if symmetric:
            arms.insert(0, Arm("cholesky, mumps", once | {"pc_type": "cholesky"} | mumps))
    if unknowns > _FACTORISED:
        return [arm for arm in arms if arm.options["ksp_type"] != "preonly"]
    kind = str(factors["pc_type"])
    arms.insert(1, Arm("direct", direct(comm, singular)))
    arms += [lagged, Arm(f"{kind}, mumps", once | factors | mumps)]
    if own and kind != "lu":
        arms.insert(1, Arm(kind, once | factors | own))
    return arms


@dataclass(frozen=True)
class Attempt:
    """What an arm did with a system; the same on all ranks.

    Args:
        setup: seconds to set up the preconditioner, of the slowest rank.
        iterating: seconds after that.
        charge: `iterating` and the set-up's share of this system, `setup / lag`; of the first set-up, all: a
            fresh preconditioner flatters an arm that lags.
        iterations: of the Krylov method.
        failure: why there is no solution; empty if there is one.
        broken: PETSc raised an error: the arm cannot be used again.
    """

    setup: float
    iterating: float
    charge: float
    iterations: int
    failure: str
    broken: bool = False


class ArmSolver:
    """A Krylov solver of one arm. Collective; call `destroy`.

    Args:
        comm: communicator of the system.
        arm: its options.

    Raises:
        SponError: options that PETSc refuses.
    """

    def __init__(self, comm: Any, arm: Arm) -> None:
        self.comm, self.arm = comm, arm
        options = dict(arm.options)
        if options.get("ksp_type") != "preonly":  # the residual itself, not preconditioned
            options = {"ksp_norm_type": "unpreconditioned"} | options
        self._krylov = Krylov(comm, options)
        self._krylov.ksp.setTolerances(max_it=_STEPS)
        self._krylov.ksp.setConvergenceTest(self._test)
        if arm.lag > 1:
            self._krylov.ksp.getPC().setUseAmat(False)  # multigrid's finest level, too, is the copy
        self._kept: PETSc.Mat | None = None
        self._seen, self._served, self._setup, self._lives = -1, arm.lag, 0.0, 0

    def attempt(self, system: ReducedSystem, target: float, seconds: float) -> Attempt:
        """Try to solve a system. Collective.

        Args:
            system: loaded.
            target: residual norm at which to stop.
            seconds: after which to give up; a set-up is not interrupted.
        """
        ksp, changed = self._krylov.ksp, system.version != self._seen
        due = self._served >= self.arm.lag
        self._target, self._seconds = target, seconds
        failure, broken, start = "", False, time.perf_counter()
        self._start, self._late, middle = start, False, start
        try:
            if self.arm.lag > 1 and changed and due:
                self._keep(system)
            self._krylov.attach(system, self._kept)
            ksp.setUp()
            ksp.setUpOnBlocks()
            middle = time.perf_counter()
            self._krylov.solve(system)
            failure = f"stopped after {seconds:.3g} s" if self._late else self._krylov.failure()
        except (SponError, PETSc.Error) as error:
            failure, broken = str(error).splitlines()[0], True
        times = np.array([middle - start, time.perf_counter() - middle, float(broken)])
        self.comm.Allreduce(MPI.IN_PLACE, times, MPI.MAX)
        setup, iterating, broken = float(times[0]), float(times[1]), bool(times[2])
        if changed:
            self._seen, self._served = system.version, 1 if due else self._served + 1
            self._setup = setup if due else self._setup
            self._lives += due
        if failure or broken:
            self._seen, self._served = -1, self.arm.lag
        share = self._setup / self.arm.lag if changed and self._lives > 1 else setup
        steps = 0 if broken else ksp.getIterationNumber()
        reason = failure or ("PETSc error on another rank" if broken else "")
        return Attempt(setup, iterating, share + iterating, steps, reason, broken)

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
        if step and step % _LOOK == 0 and np.isfinite(self._seconds):
            late = time.perf_counter() - self._start > self._seconds
            self._late = bool(self.comm.allreduce(late, MPI.LOR))
            if self._late:
                return int(_Test.DIVERGED_MAX_IT)
        return int(_Test.ITERATING)

    def destroy(self) -> None:
        """Free the KSP and the matrix that was kept. Collective."""
        self._krylov.destroy()
        if self._kept is not None:
            self._kept.destroy()
