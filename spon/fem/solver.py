"""Linear solves on the admissible functions of a constraint."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.canonical import CanonicalOrder
from spon.fem.nullspace import Nullspace, checked, span
from spon.fem.petsc_options import PrefixedOptions
from spon.fem.prolongation import live_prolongation

__all__ = ["ConstrainedSolver", "direct"]

Floats = npt.NDArray[np.float64]
_REASONS = {v: k for k, v in vars(PETSc.KSP.ConvergedReason).items() if k.startswith("DIVERGED")}
_SINGULAR = 1e-6  # relative residual after a factorisation that worked is many orders smaller
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


class ConstrainedSolver:
    """Solve Zᵀ A Z û = Zᵀ (b − A u_g), u = Z û + u_g, with the Z that the network decodes with.

    The reduced matrix and the Krylov solver are made once and used for every (A, b). Z may have any
    number of entries in a row and a column: prescribed, tied and turned DoFs, curls of potentials.

    PETSc frees the objects of a communicator of several ranks together: call `destroy`, or use the
    solver in a `with` statement; what was left over is freed when the next solver is made.

    Args:
        order: canonical order of the space.
        constraint: what the solution satisfies.
        options: PETSc options of the KSP, without prefix, such as
            `{"ksp_type": "cg", "pc_type": "hypre", "ksp_rtol": 1e-10}`; default: a factorisation.
        nullspace: what A maps to zero among the admissible functions, where the reduced system is
            singular: `"constants"`, one for each component of a Lagrange space, or an array
            (functions, DoFs) in canonical order. The part of the load in it is left out, and the solution
            has none, both in L2: the mean is zero. Aᵀ has to have the same nullspace.
        near_nullspace: (functions, DoFs) of small energy, such as rigid motions, for algebraic
            multigrid.

    Raises:
        SponError: vectors of the wrong length; a nullspace that the constraint does not admit;
            options that PETSc refuses.
    """

    def __init__(
        self,
        order: CanonicalOrder,
        constraint: Constraint,
        options: dict[str, Any] | None = None,
        nullspace: str | Floats | None = None,
        near_nullspace: Floats | None = None,
    ) -> None:
        if constraint.Z.shape[0] != order.size:
            raise SponError(f"a constraint on {constraint.Z.shape[0]} DoFs; the space has {order.size}")
        self.order, self.constraint = order, constraint
        self.comm = order.mesh.comm
        near = None if near_nullspace is None else checked(order, near_nullspace)
        self._kernel = None if nullspace is None else Nullspace(order, constraint, nullspace)
        PETSc.garbage_cleanup(self.comm)
        self._Z, columns = live_prolongation(order, constraint)
        self._shift, self._work = self._Z.createVecs("left"), self._Z.createVecs("left")
        self._x, self._rhs = self._Z.createVecs("right"), self._Z.createVecs("right")
        self._residual = self._rhs.duplicate()
        self._nullspace = self._near = None
        if self._kernel is not None:
            self._nullspace = span(self._kernel.free, self._x, columns)
        if near is not None:
            self._near = span(constraint.free(near + constraint.shift), self._x, columns)
        self._reduced: PETSc.Mat | None = None
        self.ksp = PETSc.KSP().create(self.comm)
        chosen = direct(self.comm, singular=nullspace is not None) if options is None else options
        self._options = PrefixedOptions(self.ksp, chosen)
        try:
            self._options.apply()
        except SponError:
            self.destroy()
            raise

    def solve(self, matrix: PETSc.Mat, rhs: PETSc.Vec, shift: Floats | None = None) -> Floats:
        """Solve one system. Collective over the communicator of the space.

        Args:
            matrix: A, assembled without boundary conditions, the same sparsity at every call.
            rhs: b, assembled and accumulated, without boundary conditions.
            shift: (DoFs,) u_g in canonical order, such as boundary data of a sample; default: that
                of the constraint.

        Returns:
            (owned DoFs,) values of u in DOLFINx's local order.

        Raises:
            SponError: sizes that do not fit; the solver did not converge.
        """
        n, data = self.order.size, self.constraint.shift if shift is None else shift
        if matrix.getSize() != (n, n) or rhs.getSize() != n or np.shape(data) != (n,):
            raise SponError(
                f"matrix {matrix.getSize()}, right-hand side ({rhs.getSize()},), shift {np.shape(data)}; "
                f"allowed: {(n, n)}, ({n},), ({n},)"
            )
        self._shift.array_w[:] = self.order.to_live(np.asarray(data))[: self.order.owned]
        self._reduce(matrix)
        matrix.mult(self._shift, self._work)
        self._work.aypx(-1.0, rhs)
        if self._kernel is not None:
            self._kernel.remove_load(self._work)
        self._Z.multTranspose(self._work, self._rhs)
        if self._nullspace is not None:
            self._nullspace.remove(self._rhs)
        try:
            self.ksp.solve(self._rhs, self._x)
        except PETSc.Error as error:
            raise SponError(f"the linear solver failed: PETSc error {error.ierr}") from error
        finally:
            self._options.forget()
        self._check()
        self._Z.multAdd(self._x, self._shift, self._work)
        if self._kernel is not None:
            self._kernel.remove_part(self._work)
        return np.array(self._work.array_r)

    def _reduce(self, matrix: PETSc.Mat) -> None:
        if self._reduced is not None:
            matrix.PtAP(self._Z, result=self._reduced)
            return
        self._reduced = matrix.PtAP(self._Z)
        if self._nullspace is not None:
            self._reduced.setNullSpace(self._nullspace)
            self._reduced.setTransposeNullSpace(self._nullspace)
        if self._near is not None:
            self._reduced.setNearNullSpace(self._near)
        self.ksp.setOperators(self._reduced)

    def _check(self) -> None:
        reason, steps = self.ksp.getConvergedReason(), self.ksp.getIterationNumber()
        assert self._reduced is not None
        self._reduced.mult(self._x, self._residual)
        self._residual.aypx(-1.0, self._rhs)
        left, size = self._residual.norm(), self._rhs.norm()
        lost = self.ksp.getType() == "preonly" and left > _SINGULAR * size
        if reason > 0 and np.isfinite(left) and not lost:
            return
        name = _REASONS.get(reason, "the matrix is singular")
        if not np.isfinite(size):
            name = "the right-hand side is not finite"
        failure = _FAILURES.get(self.ksp.getPC().getFailedReason())
        name += f" ({failure})" if failure else ""
        raise SponError(
            f"the linear solver did not converge: {name} after {steps} iterations, "
            f"residual norm {left:.3g}, right-hand side {size:.3g}"
        )

    def destroy(self) -> None:
        """Free the PETSc objects. Collective; the solver cannot be used afterwards."""
        self._options.forget()
        vectors = [self._shift, self._work, self._x, self._rhs, self._residual]
        for one in (self.ksp, self._reduced, self._Z, self._nullspace, self._near, self._kernel, *vectors):
            if one is not None:
                one.destroy()
        PETSc.garbage_cleanup(self.comm)

    def __enter__(self) -> ConstrainedSolver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()
