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
from spon.fem.krylov import Krylov, direct
from spon.fem.reduced import ReducedSystem

__all__ = ["ConstrainedSolver", "direct"]

Floats = npt.NDArray[np.float64]
_SINGULAR = 1e-6  # relative residual after a factorisation that worked is many orders smaller


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
        self.order, self.constraint = order, constraint
        self.comm = order.mesh.comm
        self.system = ReducedSystem(order, constraint, nullspace, near_nullspace)
        try:
            chosen = direct(self.comm, singular=nullspace is not None) if options is None else options
            self._krylov = Krylov(self.comm, chosen)
        except SponError:
            self.system.destroy()
            raise
        self.ksp = self._krylov.ksp
        self._residual = np.nan

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
        self.system.load(matrix, rhs, shift)
        return self.solve_loaded()

    def solve_loaded(self) -> Floats:
        """Solve what `system` holds. Collective.

        Returns:
            As `solve`.

        Raises:
            SponError: the solver did not converge.
        """
        self._krylov.solve(self.system)
        self._check()
        return self.system.solution()

    @property
    def statistics(self) -> dict[str, float]:
        """Iterations and relative residual of the last solve."""
        return {"iterations": float(self.ksp.getIterationNumber()), "residual": self._residual}

    def _check(self) -> None:
        left, size = self.system.residual(), self.system.rhs.norm()
        self._residual = left / size if size else 0.0
        failure = self._krylov.failure()
        lost = self.ksp.getType() == "preonly" and left > _SINGULAR * size
        if not failure and np.isfinite(left) and not lost:
            return
        name = failure or "the matrix is singular"
        if not np.isfinite(size):
            name = "the right-hand side is not finite"
        raise SponError(
            f"the linear solver did not converge: {name} after {self.ksp.getIterationNumber()} iterations, "
            f"residual norm {left:.3g}, right-hand side {size:.3g}"
        )

    def destroy(self) -> None:
        """Free the PETSc objects. Collective; the solver cannot be used afterwards."""
        self._krylov.destroy()
        self.system.destroy()

    def __enter__(self) -> ConstrainedSolver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()
