"""The linear systems of Newton's method on a macroscopic problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import ufl
from mpi4py import MPI
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.fem.assembly import assembled
from spon.fem.canonical import CanonicalOrder
from spon.fem.krylov import direct
from spon.fem.solver import ConstrainedSolver
from spon.multiscale.macro_points import MacroPoints

__all__ = ["MacroLinear"]

Floats = npt.NDArray[np.float64]

_ASYMMETRY = 1e-10  # of tangents, relative: round-off


class MacroLinear:
    """Zᵀ (F + K δu) = 0, δu = Z δû + δu_g, with K of the cells' matrices. Collective.

    Symmetric stiffnesses are factorised as such, those of surrogates without a potential are not. On one
    rank, where Z just leaves DoFs out or ties them, ZᵀKZ is summed from the cells' matrices without K.

    Args:
        order: canonical order of the space.
        constraint: on the space.
        points: of this rank.
        options: as for `ConstrainedSolver`.

    Raises:
        SponError: options that PETSc refuses.
    """

    def __init__(
        self,
        order: CanonicalOrder,
        constraint: Constraint,
        points: MacroPoints,
        options: dict[str, Any] | None,
    ) -> None:
        self._order, self._constraint, self._points, self._options = order, constraint, points, options
        self._comm = order.mesh.comm
        self._solvers: dict[bool, ConstrainedSolver] = {}
        u, v = ufl.TrialFunction(order.space), ufl.TestFunction(order.space)
        self._matrix = assembled(ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx(degree=1))  # for its sparsity
        self._rhs = self._matrix.createVecs("left")
        system = self._solver(symmetric=True).system
        self._free = system.rhs.duplicate()
        self._Z = system.Z
        self._places: dict[bool, _Places] = {}
        self._selects = self._comm.size == 1 and _selects(self._Z)

    def _solver(self, symmetric: bool) -> ConstrainedSolver:
        kind = symmetric or self._options is not None
        if kind not in self._solvers:
            options = direct(self._comm, definite=symmetric) if self._options is None else self._options
            self._solvers[kind] = ConstrainedSolver(self._order, self._constraint, options)
        return self._solvers[kind]

    def unbalanced(self, forces: Floats) -> float:
        """Return ‖Zᵀ F‖ of forces (owned DoFs,)."""
        self._rhs.array_w[:] = forces
        self._Z.multTranspose(self._rhs, self._free)
        return float(self._free.norm())

    def load(self, tangent: Floats, forces: Floats, change: Floats) -> ConstrainedSolver:
        """Assemble a system.

        Args:
            tangent: (points, n, n).
            forces: (owned DoFs,) F.
            change: (DoFs,) δu_g, in canonical order.

        Returns:
            The solver that holds it.
        """
        turned = np.abs(tangent - tangent.transpose(0, 2, 1)).max(initial=0.0)
        symmetric = bool(turned <= _ASYMMETRY * np.abs(tangent).max(initial=0.0))
        symmetric = bool(self._comm.allreduce(symmetric, MPI.LAND))
        solver, cells = self._solver(symmetric), len(self._points.dofs)
        stiffness = self._points.stiffness(tangent).reshape(cells, self._points.dofs.shape[1] ** 2)
        if self._selects and symmetric in self._places:
            self._fill(solver, self._places[symmetric], stiffness, tangent, forces, change)
            return solver
        self._matrix.zeroEntries()
        dofs = self._points.dofs
        if cells:
            self._matrix.setValuesLocalRCV(dofs, dofs, stiffness, addv=PETSc.InsertMode.ADD_VALUES)
        self._matrix.assemble()
        self._rhs.array_w[:] = -forces
        solver.system.load(self._matrix, self._rhs, change)
        if self._selects:
            self._places[symmetric] = _Places(solver.system.matrix, self._Z, dofs)
        return solver

    def _fill(
        self,
        solver: ConstrainedSolver,
        places: _Places,
        stiffness: Floats,
        tangent: Floats,
        forces: Floats,
        change: Floats,
    ) -> None:
        shift = np.zeros(self._order.owned)
        if change.any():
            shift = self._order.to_live(change)
            stress = (tangent @ self._points.strain(shift)[:, :, None])[:, :, 0]
            forces = forces + self._points.force(stress)
        self._rhs.array_w[:] = -forces
        self._Z.multTranspose(self._rhs, self._free)
        solver.system.live_shift.array_w[:] = shift
        solver.system.fill(places(stiffness), self._free.array_r)

    def destroy(self) -> None:
        """Free the PETSc objects. Collective."""
        for one in (self._matrix, self._rhs, self._free, *self._solvers.values()):
            one.destroy()


def _selects(Z: PETSc.Mat) -> bool:
    """Whether each row of Z has one entry, 1, at most."""
    indptr, _, values = Z.getValuesCSR()
    return bool((np.diff(indptr) <= 1).all() and (values == 1.0).all())


class _Places:
    """Where the entries of the cells' matrices go in the values of ZᵀKZ, as its CSR arrays have them.

    Args:
        matrix: ZᵀKZ, once reduced by PETSc.
        Z: has one entry in a row, 1, at most.
        dofs: (cells, k).
    """

    def __init__(self, matrix: PETSc.Mat, Z: PETSc.Mat, dofs: npt.NDArray[np.int32]) -> None:
        indptr, columns, _ = matrix.getValuesCSR()
        starts, indices, _ = Z.getValuesCSR()
        free = np.full(len(starts) - 1, -1, dtype=np.int64)
        free[np.diff(starts) == 1] = indices
        n, self._count = len(indptr) - 1, len(columns)
        keys = np.repeat(np.arange(n), np.diff(indptr)) * n + columns  # sorted: PETSc sorts its rows
        rows = free[dofs]
        pairs = (n * rows[:, :, None] + rows[:, None, :]).ravel()
        held = ((rows[:, :, None] < 0) | (rows[:, None, :] < 0)).ravel()
        self._slots = np.where(held, self._count, np.searchsorted(keys, pairs))

    def __call__(self, stiffness: Floats) -> Floats:
        """Return the values of ZᵀKZ, (entries,), of matrices of the cells (cells, k²)."""
        out = np.bincount(self._slots, stiffness.ravel(), minlength=self._count + 1)
        return np.asarray(out[: self._count], dtype=np.float64)
