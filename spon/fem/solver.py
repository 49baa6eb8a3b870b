"""Linear solves on the admissible functions of a constraint."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.canonical import CanonicalOrder

__all__ = ["ConstrainedSolver"]


class ConstrainedSolver:
    """Solve Zᵀ A Z û = Zᵀ (b − A u_g), u = Z û + u_g, with the Z that the network decodes with.

    The reduced matrix and the Krylov solver are made once and used for every (A, b).

    Args:
        order: canonical order of the space.
        constraint: what the solution satisfies.
        options: PETSc options of the KSP, without prefix, such as
            `{"ksp_type": "cg", "pc_type": "hypre", "ksp_rtol": 1e-10}`.
    """

    def __init__(self, order: CanonicalOrder, constraint: Constraint, options: dict[str, Any]) -> None:
        self.order = order
        self.constraint = constraint
        comm = order.space.mesh.comm
        self._Z = _live_prolongation(order, constraint)
        self._reduced: PETSc.Mat | None = None
        index_map = order.space.dofmap.index_map
        self._shift = PETSc.Vec().createMPI((index_map.size_local, index_map.size_global), comm=comm)
        self._shift.array_w[:] = constraint.shift[order.local[: order.owned]]
        self._work = self._shift.duplicate()
        self._x, self._rhs = self._Z.createVecs("right"), self._Z.createVecs("right")
        self.ksp = PETSc.KSP().create(comm)
        self.ksp.setOptionsPrefix(f"spon_{id(self):x}_")
        database = PETSc.Options()
        for key, value in options.items():
            database[f"{self.ksp.getOptionsPrefix()}{key}"] = value
        self.ksp.setFromOptions()
        for key in options:
            del database[f"{self.ksp.getOptionsPrefix()}{key}"]

    def solve(self, matrix: PETSc.Mat, rhs: PETSc.Vec) -> npt.NDArray[np.float64]:
        """Solve one system. Collective over the communicator of the space.

        Args:
            matrix: A, assembled without boundary conditions, the same sparsity at every call.
            rhs: b, assembled and accumulated, without boundary conditions.

        Returns:
            (owned DoFs,) values of u in DOLFINx's local order.

        Raises:
            SponError: the solver did not converge.
        """
        if self._reduced is None:
            self._reduced = matrix.PtAP(self._Z)
            self.ksp.setOperators(self._reduced)
        else:
            matrix.PtAP(self._Z, result=self._reduced)
        matrix.mult(self._shift, self._work)
        self._work.aypx(-1.0, rhs)
        self._Z.multTranspose(self._work, self._rhs)
        self.ksp.solve(self._rhs, self._x)
        if self.ksp.getConvergedReason() <= 0:
            raise SponError(
                f"the linear solver did not converge: PETSc reason {self.ksp.getConvergedReason()} "
                f"after {self.ksp.getIterationNumber()} iterations"
            )
        self._Z.multAdd(self._x, self._shift, self._work)
        return np.array(self._work.array_r)


def _live_prolongation(order: CanonicalOrder, constraint: Constraint) -> PETSc.Mat:
    """Z in DOLFINx's numbering; a column belongs to the rank that owns its first row there."""
    comm = order.space.mesh.comm
    live = constraint.Z[order.everywhere]  # rows in DOLFINx's global order
    first_row = live.tocsc().indices[live.tocsc().indptr[:-1]]
    column_order = np.argsort(first_row, kind="stable")
    number = np.empty(live.shape[1], dtype=PETSc.IntType)
    number[column_order] = np.arange(live.shape[1])
    index_map = order.space.dofmap.index_map
    start, stop = index_map.local_range
    columns = int(np.count_nonzero((first_row >= start) & (first_row < stop)))
    mine = live[start:stop]
    sizes = ((stop - start, live.shape[0]), (columns, live.shape[1]))
    indptr = mine.indptr.astype(PETSc.IntType)
    return PETSc.Mat().createAIJ(sizes, csr=(indptr, number[mine.indices], mine.data), comm=comm)
