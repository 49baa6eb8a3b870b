"""Krylov solvers of PETSc, set by dictionaries of options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from petsc4py import PETSc

from spon.errors import SponError
from spon.fem.petsc_options import own_prefix
from spon.fem.reduced import ReducedSystem

__all__ = ["Krylov", "direct"]

_REASONS = {v: k for k, v in vars(PETSc.KSP.ConvergedReason).items() if k.startswith("DIVERGED")}
_FAILURES = {v: k for k, v in vars(PETSc.PC.FailedReason).items() if k.isupper() and v}


def direct(comm: Any, singular: bool = False, definite: bool = False) -> dict[str, Any]:
    """Return PETSc options of a sparse factorisation.

    Args:
        comm: communicator of the mesh.
        singular: whether zero pivots have to be left out.
        definite: whether matrices are symmetric and positive definite: half the work, no pivoting.
    """
    if definite and not singular and PETSc.Sys.hasExternalPackage("mumps"):
        plain = {"mat_mumps_cntl_1": 0.0, "mat_mumps_icntl_8": 0}  # neither pivots nor scaling
        return {"ksp_type": "preonly", "pc_type": "cholesky", "pc_factor_mat_solver_type": "mumps"} | plain
    options: dict[str, Any] = {"ksp_type": "preonly", "pc_type": "lu"}
    if singular:
        return options | {"pc_factor_mat_solver_type": "mumps", "mat_mumps_icntl_24": 1}
    if comm.size > 1:  # PETSc's own factorisation is serial
        return options | {"pc_factor_mat_solver_type": "mumps"}
    return options | {"pc_factor_mat_ordering_type": "nd"}


class Krylov:
    """A KSP for one `ReducedSystem`. Collective; call `destroy`.

    What a preconditioner has set up is kept as long as the reduced matrix stays what it is.

    Args:
        comm: communicator of the system.
        options: PETSc options of the KSP, without prefix.

    Raises:
        SponError: options that PETSc refuses.
    """

    def __init__(self, comm: Any, options: dict[str, Any]) -> None:
        prefix = own_prefix()
        self.ksp = PETSc.KSP().create(comm)
        self.ksp.setOptionsPrefix(prefix)
        self._options = {f"{prefix}{key}": value for key, value in options.items()}
        self._attached = self._solved = False
        try:
            with self._set():
                self.ksp.setFromOptions()
        except PETSc.Error as error:
            self.destroy()
            raise SponError(f"PETSc refuses the options {options}: error {error.ierr}") from error

    @contextmanager
    def _set(self) -> Iterator[None]:
        """Have the options in PETSc's database for a while."""
        database = PETSc.Options()
        for key, value in self._options.items():
            database[key] = value
        try:
            yield
        finally:
            for key in self._options:
                del database[key]

    def attach(self, system: ReducedSystem, preconditioned: PETSc.Mat | None = None) -> None:
        """Take the matrix of the system, which has been loaded, for good.

        Args:
            system: loaded.
            preconditioned: matrix that the preconditioner is made of; default: that of the system.
        """
        if not self._attached:
            self.ksp.setOperators(system.matrix, preconditioned)
            self._attached = True

    def reuse(self, kept: bool) -> None:
        """Say whether the preconditioner stays as it is where the matrix has changed."""
        self.ksp.getPC().setReusePreconditioner(kept)

    def set_up(self, system: ReducedSystem) -> None:
        """Set up the preconditioner for the system's matrix. Collective.

        Raises:
            SponError: PETSc raised an error.
        """
        self.attach(system)
        try:
            with nullcontext() if self._solved else self._set():
                self.ksp.setUp()
                self.ksp.getPC().setUp()  # also where the matrix has other values than before
                self.ksp.setUpOnBlocks()
        except PETSc.Error as error:
            raise SponError(f"the linear solver failed: PETSc error {error.ierr}") from error

    def solve(self, system: ReducedSystem) -> None:
        """Write the system's û. Collective.

        Raises:
            SponError: PETSc raised an error. Whether it converged: `failure`.
        """
        self.attach(system)
        try:
            # factorisations and preconditioners of blocks read their options in the first solve
            with nullcontext() if self._solved else self._set():
                self.ksp.solve(system.rhs, system.x)
        except PETSc.Error as error:
            raise SponError(f"the linear solver failed: PETSc error {error.ierr}") from error
        self._solved = True

    def failure(self) -> str:
        """Return why the last solve did not converge; empty if it did."""
        reason = self.ksp.getConvergedReason()
        if reason > 0:
            return ""
        cause = _FAILURES.get(self.ksp.getPC().getFailedReason())
        return _REASONS.get(reason, f"reason {reason}") + (f" ({cause})" if cause else "")

    def destroy(self) -> None:
        """Free the KSP. Collective."""
        self.ksp.destroy()
