"""Krylov solvers of PETSc, set by dictionaries of options."""

from __future__ import annotations

from typing import Any

from petsc4py import PETSc

from spon.errors import SponError
from spon.fem.reduced import ReducedSystem

__all__ = ["Krylov", "direct"]

_REASONS = {v: k for k, v in vars(PETSc.KSP.ConvergedReason).items() if k.startswith("DIVERGED")}
_FAILURES = {v: k for k, v in vars(PETSc.PC.FailedReason).items() if k.isupper() and v}


def direct(comm: Any, singular: bool = False) -> dict[str, Any]:
    """Return PETSc options of a sparse factorisation.

    Args:
        comm: communicator of the mesh.
        singular: whether zero pivots have to be left out.
    """
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
        prefix = f"spon_{id(self):x}_"
        self.ksp = PETSc.KSP().create(comm)
        self.ksp.setOptionsPrefix(prefix)
        self._database = PETSc.Options()
        self._keys = [f"{prefix}{key}" for key in options]
        self._attached = False
        for key, value in zip(self._keys, options.values(), strict=True):
            self._database[key] = value
        try:
            self.ksp.setFromOptions()
        except PETSc.Error as error:
            self.destroy()
            raise SponError(f"PETSc refuses the options {options}: error {error.ierr}") from error

    def attach(self, system: ReducedSystem, preconditioned: PETSc.Mat | None = None) -> None:
        """Take the matrix of the system, which has been loaded, for good.

        Args:
            system: loaded.
            preconditioned: matrix that the preconditioner is made of; default: that of the system.
        """
        if not self._attached:
            self.ksp.setOperators(system.matrix, preconditioned)
            self._attached = True

    def solve(self, system: ReducedSystem) -> None:
        """Write the system's û. Collective.

        Raises:
            SponError: PETSc raised an error. Whether it converged: `failure`.
        """
        self.attach(system)
        try:
            self.ksp.solve(system.rhs, system.x)
        except PETSc.Error as error:
            raise SponError(f"the linear solver failed: PETSc error {error.ierr}") from error
        finally:
            self._forget_options()  # factorisations read theirs in the first solve

    def failure(self) -> str:
        """Return why the last solve did not converge; empty if it did."""
        reason = self.ksp.getConvergedReason()
        if reason > 0:
            return ""
        cause = _FAILURES.get(self.ksp.getPC().getFailedReason())
        return _REASONS.get(reason, f"reason {reason}") + (f" ({cause})" if cause else "")

    def _forget_options(self) -> None:
        for key in self._keys:
            del self._database[key]
        self._keys = []

    def destroy(self) -> None:
        """Free the KSP. Collective."""
        self._forget_options()
        self.ksp.destroy()
