"""Factors of symmetric positive definite matrices that share their pattern."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from spon.errors import SponError

__all__ = ["Factorisation", "NotPositiveDefinite", "factorisation"]

Floats = npt.NDArray[np.float64]

_NEGATIVE_PIVOTS = 12  # INFOG(12) of MUMPS
_MESSAGE = "the stiffness of the RVE is not positive definite"


class NotPositiveDefinite(SponError):  # noqa: N818, what was found
    """A stiffness that has no Cholesky factors."""


class Factorisation(ABC):
    """A⁻¹ of the matrix that was given last."""

    @abstractmethod
    def update(self, values: Floats) -> None:
        """Factorise.

        Args:
            values: (entries,) in the order of the pattern.

        Raises:
            NotPositiveDefinite: the matrix is singular, or has a negative eigenvalue.
        """

    @abstractmethod
    def solve(self, rhs: Floats) -> Floats:
        """Return A⁻¹ b, (unknowns, m), of b (unknowns, m)."""


class _Mumps(Factorisation):
    """Cholesky factors by MUMPS through PETSc; the symbolic phase is done once."""

    def __init__(self, pattern: sp.csr_array) -> None:
        from petsc4py import PETSc

        self._PETSc = PETSc
        csr = tuple(np.ascontiguousarray(a, dtype=PETSc.IntType) for a in (pattern.indptr, pattern.indices))
        self._csr = csr
        self._matrix = PETSc.Mat().createAIJ(pattern.shape, csr=(*csr, pattern.data), comm=PETSc.COMM_SELF)
        self._matrix.setOption(PETSc.Mat.Option.SPD, True)
        self._pc = PETSc.PC().create(PETSc.COMM_SELF)
        self._pc.setType("cholesky")
        self._pc.setFactorSolverType("mumps")
        self._factor: Any = None

    def update(self, values: Floats) -> None:
        self._matrix.setValuesCSR(*self._csr, values)
        self._matrix.assemble()
        self._pc.setOperators(self._matrix)
        self._pc.setUp()
        self._factor = self._pc.getFactorMatrix()
        if self._pc.getFailedReason() or self._factor.getMumpsInfog(_NEGATIVE_PIVOTS):
            raise NotPositiveDefinite(_MESSAGE)

    def solve(self, rhs: Floats) -> Floats:
        comm = self._PETSc.COMM_SELF
        b = self._PETSc.Mat().createDense(rhs.shape, array=np.asfortranarray(rhs), comm=comm)
        x = self._PETSc.Mat().createDense(rhs.shape, comm=comm)
        x.setUp()
        b.assemble()
        x.assemble()
        self._factor.matSolve(b, x)
        out = np.array(x.getDenseArray())
        b.destroy()
        x.destroy()
        return out

    def __del__(self) -> None:
        self._pc.destroy()
        self._matrix.destroy()


class _SuperLU(Factorisation):
    """LU factors by SciPy, where there is no PETSc with MUMPS."""

    def __init__(self, pattern: sp.csr_array) -> None:
        self._matrix = sp.csc_array(pattern)  # symmetric: the rows are the columns
        self._matrix.indptr, self._matrix.indices = pattern.indptr, pattern.indices
        self._factor: Any = None

    def update(self, values: Floats) -> None:
        self._matrix.data = values
        try:
            self._factor = spla.splu(
                self._matrix,
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
        except RuntimeError as error:
            raise NotPositiveDefinite(_MESSAGE) from error
        if not (self._factor.U.diagonal() > 0).all():  # no pivoting: the signs are those of the eigenvalues
            raise NotPositiveDefinite(_MESSAGE)

    def solve(self, rhs: Floats) -> Floats:
        return np.asarray(self._factor.solve(rhs))


def factorisation(pattern: sp.csr_array) -> Factorisation:
    """Return factors by MUMPS where PETSc has it, else by SciPy.

    Args:
        pattern: (unknowns, unknowns), symmetric, sorted indices, all diagonal entries there.
    """
    try:
        from petsc4py import PETSc
    except ImportError:
        return _SuperLU(pattern)
    if not PETSc.Sys.hasExternalPackage("mumps"):
        return _SuperLU(pattern)
    return _Mumps(pattern)
