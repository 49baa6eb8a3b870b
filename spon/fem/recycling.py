"""Systems that no preconditioner of PETSc suits, solved one after another with what the last ones taught."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.canonical import CanonicalOrder
from spon.fem.reduced import ReducedSystem

__all__ = ["RecycledSolve", "RecyclingSolver"]

Floats = npt.NDArray[np.float64]
_KINDS = (None, "ilu", "lu")


@dataclass(frozen=True)
class RecycledSolve:
    """How one system was solved.

    Args:
        products: with the matrix, among them one for each recycled vector.
        preconditioned: applications of the preconditioner: the iterations proper.
        residual: ‖Zᵀ (b − A u)‖ / ‖Zᵀ (b − A u_g)‖.
        fresh: whether the preconditioner was made of this system.
    """

    products: int
    preconditioned: int
    residual: float
    fresh: bool


class RecyclingSolver:
    """Solve a sequence of systems by GCROT(m, k), whose subspace goes from each system to the next.

    For nonsymmetric and indefinite systems, such as Helmholtz equations with media that vary little: put
    them in the order of `spon.data.ordering.nearest_neighbour_order`. Symmetric definite systems are
    better served by multigrid. E. de Sturler, "Truncation strategies for optimal Krylov subspace methods",
    SIAM J. Numer. Anal. 36 (1999); `scipy.sparse.linalg.gcrotmk`.

    Args:
        order: canonical order of the space, on one rank.
        constraint: what the solution satisfies.
        rtol: of the residual to the right-hand side.
        inner: m, Krylov vectors between restarts.
        recycled: k, vectors kept; 0 forgets everything at the end of a system.
        preconditioner: `"lu"` or `"ilu"` factors of an earlier system, or None.
        every: systems between one made anew and the next; 0: that of the first system serves all.
        products: with the matrix of one system, at most.

    Attributes:
        log: a `RecycledSolve` for each system.

    Raises:
        SponError: more than one rank; a value out of range.
    """

    def __init__(
        self,
        order: CanonicalOrder,
        constraint: Constraint,
        rtol: float = 1e-10,
        inner: int = 20,
        recycled: int = 20,
        preconditioner: str | None = "lu",
        every: int = 0,
        products: int = 2000,
    ) -> None:
        if order.mesh.comm.size > 1:
            raise SponError(
                f"RecyclingSolver on {order.mesh.comm.size} ranks; allowed: 1, such as MPI.COMM_SELF; "
                "TunedSolver works on several"
            )
        if preconditioner not in _KINDS:
            raise SponError(f"preconditioner '{preconditioner}'; allowed: None, 'ilu', 'lu'")
        if not (0.0 < rtol < 1.0 and inner >= 1 and recycled >= 0 and every >= 0 and products >= 1):
            raise SponError(
                f"rtol {rtol}, inner {inner}, recycled {recycled}, every {every}, products {products}; "
                "allowed: above 0 below 1, from 1, from 0, from 0, from 1"
            )
        self.order, self.constraint, self.rtol = order, constraint, rtol
        self.system = ReducedSystem(order, constraint)
        self.log: list[RecycledSolve] = []
        self._inner, self._recycled, self._limit = inner, recycled, products
        self._kind, self._every, self._factors = preconditioner, every, None
        self._subspace: list[tuple[Floats | None, Floats]] = []  # pairs c = A u
        self._version = self._age = 0

    def solve(self, matrix: PETSc.Mat, rhs: PETSc.Vec, shift: Floats | None = None) -> Floats:
        """Solve one system.

        Args:
            matrix: A, assembled without boundary conditions, the same sparsity at every call.
            rhs: b, assembled, without boundary conditions.
            shift: (DoFs,) u_g in canonical order; default: that of the constraint.

        Returns:
            (DoFs,) values of u in DOLFINx's local order.

        Raises:
            SponError: sizes that do not fit; the preconditioner is singular; the tolerance was not reached.
        """
        self.system.load(matrix, rhs, shift)
        return self.solve_loaded()

    def solve_loaded(self) -> Floats:
        """Solve what `system` holds.

        Returns:
            As `solve`.

        Raises:
            SponError: the preconditioner is singular; the tolerance was not reached.
        """
        size = float(self.system.rhs.norm())
        if not np.isfinite(size):
            raise SponError("the linear solver did not start: the right-hand side is not finite")
        indptr, indices, data = self.system.matrix.getValuesCSR()
        A = sp.csr_array((data, indices, indptr), shape=self.system.matrix.getSize())
        changed = self.system.version != self._version
        fresh = changed and (self._factors is None or (self._every > 0 and self._age >= self._every))
        if changed:
            self._version = self.system.version
            self._subspace = [(None, u) for _, u in self._subspace]  # A u is another one now
        if fresh and self._kind is not None:
            self._factors = _factorised(A, self._kind)
            self._age = 0
        self._age += changed
        product, preconditioner = _Counted(A.dot), _Counted(self._factors or np.array)
        operators = [spla.LinearOperator(A.shape, matvec=f, dtype=A.dtype) for f in (product, preconditioner)]
        x, _ = spla.gcrotmk(
            operators[0],
            self.system.rhs.array_r.copy(),
            rtol=self.rtol,
            maxiter=max(1, self._limit // self._inner),
            M=operators[1],
            m=self._inner,
            k=max(1, self._recycled),
            CU=self._subspace,
            discard_C=False,
            truncate="smallest",
        )
        if self._recycled == 0:
            self._subspace = []
        self.system.x.array_w[:] = x
        left = self.system.residual()
        if not left <= 1.01 * self.rtol * size:
            self._subspace = []
            raise SponError(
                f"the linear solver did not converge: residual norm {left:.3g}, right-hand side {size:.3g} "
                f"after {product.calls} products; allowed: {self._limit}"
            )
        relative = left / size if size else 0.0
        made = fresh and self._kind is not None
        self.log.append(RecycledSolve(product.calls, preconditioner.calls, relative, made))
        return self.system.solution()

    @property
    def statistics(self) -> dict[str, float]:
        """Iterations and relative residual of the last solve."""
        return {"iterations": float(self.log[-1].preconditioned), "residual": self.log[-1].residual}

    def destroy(self) -> None:
        """Free the PETSc objects; the solver cannot be used afterwards."""
        self.system.destroy()

    def __enter__(self) -> RecyclingSolver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()


class _Counted:
    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, vector: Floats) -> Any:
        self.calls += 1
        return self.function(vector)


def _factorised(A: sp.csr_array, kind: str) -> Any:
    try:
        columns = sp.csc_array(A)
        return (spla.splu(columns) if kind == "lu" else spla.spilu(columns, 1e-2, 5.0)).solve
    except RuntimeError as error:  # how SuperLU reports a zero pivot
        raise SponError(
            f"no '{kind}' preconditioner: {error}; allowed: a matrix that is not singular"
        ) from error
