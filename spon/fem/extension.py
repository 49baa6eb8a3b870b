"""The smooth cut-off w and the harmonic extension of boundary data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from mpi4py import MPI
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError, agree
from spon.fem.levels import nodal, nodal_level
from spon.fem.mesh import TaggedMesh
from spon.fem.petsc_options import own_prefix
from spon.fem.spaces import Part, continuous_lagrange
from spon.fem.transfer import interpolation

__all__ = ["Extension"]

Floats = npt.NDArray[np.float64]

_DIRECT = 20_000  # largest number of unknowns that is factorised
_ITERATIVE = {"ksp_type": "cg", "pc_type": "hypre", "ksp_rtol": 1e-13, "ksp_max_it": 200}
_FACTORISED = {"ksp_type": "preonly", "pc_type": "cholesky", "pc_factor_mat_ordering_type": "nd"}


class Extension:
    """Solves Laplace problems on a mesh for all ranks.

    Rank 0 does it, with a stiffness from plain arrays, so that the result is the same to the last bit on
    any number of ranks; in parallel the round-off of assembly would be amplified by the
    condition number.

    Args:
        mesh: of the spaces.
        constraint: of the output.
    """

    def __init__(self, mesh: TaggedMesh, constraint: Constraint) -> None:
        self.mesh, self.constraint = mesh, constraint
        self._laplacians: dict[int, tuple[sp.csr_array, Floats]] = {}
        self._solvers: dict[tuple[int, bytes], _Solver] = {}

    def cutoff(self, latent: Sequence[Part], flows: int, degree: int) -> Floats:
        """Return w in [0, 1] for each latent component at the nodes. Collective.

        For a component of a continuous Lagrange field that is prescribed somewhere, w solves −Δw = 1
        with w = 0 there and natural conditions elsewhere, tied where the constraint ties, scaled to
        maximum 1. For other fields w = 1: their constraint drops DoFs, which leaves no trace at nodes.

        Args:
            latent: members of the latent space, their offsets in the latent DoFs.
            flows: further components, with w = 1.
            degree: of the nodes.

        Returns:
            (nodes, latent components).
        """
        nodes = nodal(self.mesh, degree)
        out = np.ones((nodes.size, sum(part.value_size for part in latent) + flows))
        S = self.constraint.admissible_latents
        solved: dict[tuple[int, bytes, bytes], Floats] = {}
        first = 0
        for part in latent:
            k = part.numbering.element.degree
            components = part.block_size if continuous_lagrange(part.numbering.element) else 0
            for component in range(components):
                ties = _restricted(S, _component(part, component))
                if (np.diff(ties.indptr) > 0).all():
                    continue
                key = (k, ties.indptr.tobytes(), ties.indices.tobytes())
                if key not in solved:
                    solved[key] = self._on_first(partial(self._torsion, k, ties))
                w = solved[key]
                at_nodes = w if k == degree else interpolation(nodes, nodal(self.mesh, k)) @ w
                out[:, first + component] = at_nodes
            first += part.value_size
        return out

    def harmonic(self, parts: Sequence[Part]) -> Constraint:
        """Return the constraint with u_g the extension of least energy of its fixed values. Collective.

        Members that are not continuous Lagrange, and those that come from a potential, keep theirs.

        Args:
            parts: members of the output space.
        """
        shift = self.constraint.shift.copy()
        latent = self.constraint.latent
        potentials = dict(latent.potentials) if latent else {}
        for number, part in enumerate(parts):
            if number in potentials or not continuous_lagrange(part.numbering.element):
                continue
            for component in range(part.block_size):
                rows = _component(part, component)
                if shift[rows].any() and self.constraint.fixed[rows].any():
                    Z, k = _restricted(self.constraint.Z, rows), part.numbering.element.degree
                    shift[rows] = self._on_first(partial(self._lift, k, Z, shift[rows]))
        return self.constraint.with_shift(shift)

    def _torsion(self, degree: int, ties: sp.csr_array) -> Floats:
        if ties.shape[1] == 0:
            return np.zeros(ties.shape[0])
        _, load = self._laplacian(degree)
        w = ties @ self._solver(degree, ties).solve(ties.T @ load)
        return np.asarray(w / w.max())

    def _lift(self, degree: int, Z: sp.csr_array, given: Floats) -> Floats:
        if Z.shape[1] == 0:
            return given
        K, _ = self._laplacian(degree)
        return np.asarray(given - Z @ self._solver(degree, Z).solve(Z.T @ (K @ given)))

    def _solver(self, degree: int, Z: sp.csr_array) -> _Solver:
        """Return the solver for ZᵀKZ, made once."""
        digest = hashlib.sha256(Z.indptr.tobytes() + Z.indices.tobytes() + Z.data.tobytes()).digest()
        if (degree, digest) not in self._solvers:
            self._solvers[degree, digest] = _Solver(Z.T @ self._laplacian(degree)[0] @ Z)
        return self._solvers[degree, digest]

    def _laplacian(self, degree: int) -> tuple[sp.csr_array, Floats]:
        """Return stiffness and ∫ φ_i of the scalar Lagrange space of a degree."""
        if degree not in self._laplacians:
            none = sp.csr_array((0, 0))
            level = nodal_level(self.mesh, degree, none, none, np.empty(0, dtype=bool), None)
            weights = sp.diags_array(np.tile(level.weights, level.gdim))
            K = sp.csr_array(level.gradient.T @ (weights @ level.gradient))
            self._laplacians[degree] = K, level.values.T @ level.weights
        return self._laplacians[degree]

    def _on_first(self, call: Callable[[], Floats]) -> Floats:
        """Call on rank 0 and give the result to all ranks. Collective."""
        comm = self.mesh.comm
        out = None
        with agree(comm):
            if comm.rank == 0:
                out = call()
        return np.asarray(comm.bcast(out, root=0))


def _component(part: Part, component: int) -> npt.NDArray[np.int64]:
    """Return the DoFs of a component of a blocked member."""
    return np.asarray(part.offset + part.block_size * np.arange(part.numbering.size) + component)


def _restricted(S: sp.csr_array, rows: npt.NDArray[np.int64]) -> sp.csr_array:
    """Return some rows of a matrix without the columns that are empty there."""
    picked = sp.csr_array(S[rows])
    picked = sp.csr_array(picked[:, np.unique(picked.indices)])
    picked.sort_indices()
    return picked


class _Solver:
    """Solves with a symmetric positive definite matrix in this process."""

    def __init__(self, matrix: sp.csr_array) -> None:
        A = sp.csr_array(matrix)
        A.sort_indices()
        csr = (A.indptr.astype(PETSc.IntType), A.indices.astype(PETSc.IntType), A.data)
        self._matrix = PETSc.Mat().createAIJ(A.shape, csr=csr, comm=MPI.COMM_SELF)
        self._ksp = PETSc.KSP().create(MPI.COMM_SELF)
        self._ksp.setOperators(self._matrix)
        database, prefix = PETSc.Options(), own_prefix()
        self._ksp.setOptionsPrefix(prefix)
        options = _FACTORISED if A.shape[0] <= _DIRECT else _ITERATIVE
        for key, value in options.items():
            database[prefix + key] = value
        self._ksp.setFromOptions()
        for key in options:
            del database[prefix + key]

    def solve(self, b: Floats) -> Floats:
        x, rhs = self._matrix.createVecs()
        rhs.array_w[:] = b
        self._ksp.solve(rhs, x)
        reason = self._ksp.getConvergedReason()
        if reason <= 0:
            raise SponError(f"the cut-off or lift could not be solved for: PETSc reason {reason}")
        return np.array(x.array_r)
