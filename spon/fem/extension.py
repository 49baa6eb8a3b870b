"""The smooth cut-off w and the harmonic extension of boundary data.

Both are solved for on one rank, with a stiffness from plain arrays: the same to the last bit whatever the number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from mpi4py import MPI
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.errors import SponError, agree
from spon.fem.canonical import Part, continuous_lagrange
from spon.fem.levels import nodal, nodal_level
from spon.fem.mesh import TaggedMesh
from spon.fem.transfer import interpolation
from spon.level import Level

__all__ = ["cutoff", "harmonic"]

Floats = npt.NDArray[np.float64]

_DIRECT = 20_000  # largest number of unknowns that is factorised
_ITERATIVE = {"ksp_type": "cg", "pc_type": "hypre", "ksp_rtol": 1e-13, "ksp_max_it": 200}
_FACTORISED = {"ksp_type": "preonly", "pc_type": "cholesky", "pc_factor_mat_ordering_type": "nd"}


def cutoff(mesh: TaggedMesh, latent: Sequence[Part], constraint: Constraint, degree: int) -> Floats:
    """Return w in [0, 1] for each latent component at the nodes. Collective.

    For a component of a continuous Lagrange field that is prescribed somewhere, w solves −Δw = 1 with w = 0 there and natural conditions elsewhere, tied
    where the constraint ties, scaled to maximum 1. For other fields w = 1: their constraint drops
    DoFs, which leaves no trace at the nodes.

    Args:
        mesh: of the space.
        latent: members of the latent space, offsets in the latent DoFs.
        constraint: of the output.
        degree: of the nodes.

    Returns:
        (nodes, latent components).
    """
    nodes = nodal(mesh, degree)
    out = np.ones((nodes.size, sum(part.value_size for part in latent)))
    S = constraint.S if constraint.gauge is None else sp.csr_array(sp.hstack([constraint.S, constraint.gauge]))
    S.sort_indices()
    solved: dict[tuple[int, bytes, bytes], Floats] = {}
    plain: dict[int, Level] = {}
    column = 0
    for part in latent:
        if not continuous_lagrange(part.numbering.element):
            column += part.value_size
            continue
        k = part.numbering.element.degree
        for component in range(part.block_size):
            ties = _restricted(S, _component(part, component))
            if (np.diff(ties.indptr) > 0).all():
                column += 1
                continue
            key = (k, ties.indptr.tobytes(), ties.indices.tobytes())
            if key not in solved:
                plain.setdefault(k, _plain(mesh, k))
                solved[key] = _torsion(mesh, plain[k], ties)
            w = solved[key]
            out[:, column] = w if k == degree else interpolation(nodes, nodal(mesh, k)) @ w
            column += 1
    return out


def harmonic(mesh: TaggedMesh, parts: Sequence[Part], constraint: Constraint) -> Constraint:
    """Replace u_g by the extension of least Dirichlet energy of its values at fixed DoFs. Collective.

    Members that are not continuous Lagrange, and those that come from a potential, keep theirs.

    Args:
        mesh: of the space.
        parts: members of the space.
        constraint: with u_g of any kind.
    """
    shift = constraint.shift.copy()
    for number, part in enumerate(parts):
        if number in constraint.potentials or not continuous_lagrange(part.numbering.element):
            continue
        K: sp.csr_array | None = None
        for component in range(part.block_size):
            rows = _component(part, component)
            if not (shift[rows].any() and constraint.fixed[rows].any()):
                continue
            if K is None:
                K = _stiffness(_plain(mesh, part.numbering.element.degree))
            Z = _restricted(constraint.Z, rows)
            if Z.shape[1]:
                shift[rows] -= Z @ _solve(mesh, Z.T @ K @ Z, Z.T @ (K @ shift[rows]))
    return constraint.with_shift(shift)


def _component(part: Part, component: int) -> npt.NDArray[np.int64]:
    """Return the DoFs of a component of a blocked member."""
    return np.asarray(part.offset + part.block_size * np.arange(part.numbering.size) + component)


def _restricted(S: sp.csr_array, rows: npt.NDArray[np.int64]) -> sp.csr_array:
    """Return some rows of a matrix without the columns that are empty there."""
    picked = sp.csr_array(S[rows])
    picked = sp.csr_array(picked[:, np.unique(picked.indices)])
    picked.sort_indices()
    return picked


def _plain(mesh: TaggedMesh, degree: int) -> Level:
    nothing = sp.csr_array((0, 0))
    return nodal_level(mesh, degree, nothing, nothing, np.empty(0, dtype=bool), None)


def _stiffness(level: Level) -> sp.csr_array:
    weights = sp.diags_array(np.tile(level.weights, level.gdim))
    return sp.csr_array(level.gradient.T @ (weights @ level.gradient))


def _torsion(mesh: TaggedMesh, level: Level, ties: sp.csr_array) -> Floats:
    """Solve −Δw = 1 on the functions in the range of `ties`, scaled to maximum 1."""
    load = level.values.T @ level.weights
    w = ties @ _solve(mesh, ties.T @ _stiffness(level) @ ties, ties.T @ load)
    return np.asarray(w / w.max())


def _solve(mesh: TaggedMesh, matrix: Any, rhs: Floats) -> Floats:
    """Solve a symmetric positive definite system on rank 0 for all ranks. Collective."""
    out = None
    with agree(mesh.comm):
        if mesh.comm.rank == 0:
            out = _solve_here(sp.csr_array(matrix), rhs)
    return np.asarray(mesh.comm.bcast(out, root=0))


def _solve_here(A: sp.csr_array, b: Floats) -> Floats:
    A.sort_indices()
    csr = (A.indptr.astype(PETSc.IntType), A.indices.astype(PETSc.IntType), A.data)
    mat = PETSc.Mat().createAIJ(A.shape, csr=csr, comm=MPI.COMM_SELF)
    ksp = PETSc.KSP().create(MPI.COMM_SELF)
    ksp.setOperators(mat)
    database, prefix = PETSc.Options(), f"spon_{id(ksp):x}_"
    ksp.setOptionsPrefix(prefix)
    options = _FACTORISED if len(b) <= _DIRECT else _ITERATIVE
    for key, value in options.items():
        database[prefix + key] = value
    ksp.setFromOptions()
    for key in options:
        del database[prefix + key]
    x, rhs = mat.createVecs()
    rhs.array_w[:] = b
    ksp.solve(rhs, x)
    reason = ksp.getConvergedReason()
    out = np.array(x.array_r)
    for item in (ksp, mat, x, rhs):
        item.destroy()
    if reason <= 0:
        raise SponError(f"the cut-off or lift could not be solved for: PETSc reason {reason}")
    return out
