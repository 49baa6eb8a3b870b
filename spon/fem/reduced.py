"""The system that is left for the free DoFs of a constraint."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
from mpi4py import MPI
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.canonical import CanonicalOrder
from spon.fem.nullspace import Nullspace, checked, span
from spon.fem.prolongation import live_prolongation

__all__ = ["ReducedSystem"]

Floats = npt.NDArray[np.float64]


class ReducedSystem:
    """Zᵀ A Z û = Zᵀ (b − A u_g) in PETSc, made once and filled for every (A, b). Collective.

    Args:
        order: canonical order of the space.
        constraint: what the solution satisfies.
        nullspace: as in `ConstrainedSolver`.
        near_nullspace: as in `ConstrainedSolver`.

    Attributes:
        Z: the constraint's Z, (DoFs, free DoFs), distributed.
        rhs: Zᵀ (b − A u_g).
        x: û; whoever solves the system writes it.
        version: number of matrices reduced; it stays where the same unchanged A comes again.

    Raises:
        SponError: vectors of the wrong length; a nullspace that the constraint does not admit.
    """

    def __init__(
        self,
        order: CanonicalOrder,
        constraint: Constraint,
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
        self.Z, columns = live_prolongation(order, constraint)
        self._shift, self._work = self.Z.createVecs("left"), self.Z.createVecs("left")
        self.x, self.rhs = self.Z.createVecs("right"), self.Z.createVecs("right")
        self._residual = self.rhs.duplicate()
        self._nullspace = self._near = None
        if self._kernel is not None:
            self._nullspace = span(self._kernel.free, self.x, columns)
        if near is not None:
            self._near = span(constraint.free(near + constraint.shift), self.x, columns)
        self._matrix: PETSc.Mat | None = None
        self._source: tuple[Any, int, int] | None = None
        self._filled: tuple[Floats, PETSc.Mat] | None = None
        self.version = 0

    @property
    def matrix(self) -> PETSc.Mat:
        """Zᵀ A Z of the last A that was loaded."""
        assert self._matrix is not None
        return self._matrix

    @property
    def singular(self) -> bool:
        """Whether there is a nullspace."""
        return self._kernel is not None

    @property
    def live_shift(self) -> PETSc.Vec:
        """u_g of the system that was loaded last, distributed as the space."""
        return self._shift

    def fill(self, values: Floats, rhs: Floats) -> None:
        """Take a system that is reduced already, on one rank.

        Args:
            values: of ZᵀAZ, in the order of the CSR arrays that `matrix` had when it was loaded.
            rhs: (free DoFs,) Zᵀ (b − A u_g).
        """
        if self._filled is None:
            csr = self.matrix.getValuesCSR()
            shared = PETSc.Mat().createAIJWithArrays(self.matrix.getSizes(), csr, comm=self.comm)
            self._filled = csr[2], shared
        self._filled[0][:] = values
        self._filled[1].copy(self.matrix, structure=PETSc.Mat.Structure.SAME_NONZERO_PATTERN)
        self.rhs.array_w[:] = rhs
        self._source = None
        self.version += 1

    def load(self, matrix: PETSc.Mat, rhs: PETSc.Vec, shift: Floats | None = None) -> None:
        """Reduce one system. Collective.

        Args:
            matrix: A, assembled without boundary conditions, the same sparsity at every call.
            rhs: b, assembled and accumulated, without boundary conditions.
            shift: (DoFs,) u_g in canonical order; default: that of the constraint.

        Raises:
            SponError: sizes that do not fit.
        """
        n, data = self.order.size, self.constraint.shift if shift is None else shift
        if matrix.getSize() != (n, n) or rhs.getSize() != n or np.shape(data) != (n,):
            raise SponError(
                f"matrix {matrix.getSize()}, right-hand side ({rhs.getSize()},), shift {np.shape(data)}; "
                f"allowed: {(n, n)}, ({n},), ({n},)"
            )
        self._shift.array_w[:] = self.order.to_live(np.asarray(data))[: self.order.owned]
        if not self._holds(matrix):
            self._reduce(matrix)
        matrix.mult(self._shift, self._work)
        self._work.aypx(-1.0, rhs)
        if self._kernel is not None:
            self._kernel.remove_load(self._work)
        self.Z.multTranspose(self._work, self.rhs)
        if self._nullspace is not None:
            self._nullspace.remove(self.rhs)

    def _holds(self, matrix: PETSc.Mat) -> bool:
        """Whether the reduced matrix is that of this one, on all ranks: a product would void factors."""
        same = False
        if self._source is not None:
            known, handle, state = self._source
            same = known() is matrix and (handle, state) == (matrix.handle, matrix.stateGet())
        return bool(self.comm.allreduce(same, MPI.LAND))

    def _reduce(self, matrix: PETSc.Mat) -> None:
        if self._matrix is not None:
            matrix.PtAP(self.Z, result=self._matrix)
        else:
            self._matrix = matrix.PtAP(self.Z)
            if self._nullspace is not None:
                self._matrix.setNullSpace(self._nullspace)
                self._matrix.setTransposeNullSpace(self._nullspace)
            if self._near is not None:
                self._matrix.setNearNullSpace(self._near)
        self._source = weakref.ref(matrix), matrix.handle, matrix.stateGet()
        self.version += 1

    def residual(self) -> float:
        """Return ‖Zᵀ (b − A u)‖, Euclidean, of the present û. Collective."""
        self.matrix.mult(self.x, self._residual)
        self._residual.aypx(-1.0, self.rhs)
        return float(self._residual.norm())

    def solution(self) -> Floats:
        """Return u = Z û + u_g, (owned DoFs,) in DOLFINx's local order. Collective."""
        self.Z.multAdd(self.x, self._shift, self._work)
        if self._kernel is not None:
            self._kernel.remove_part(self._work)
        return np.array(self._work.array_r)

    def destroy(self) -> None:
        """Free the PETSc objects. Collective."""
        vectors = [self._shift, self._work, self.x, self.rhs, self._residual]
        for one in (self._matrix, self.Z, self._nullspace, self._near, self._kernel, *vectors):
            if one is not None:
                one.destroy()
        if self._filled is not None:
            self._filled[1].destroy()
        PETSc.garbage_cleanup(self.comm)
