"""Geometric multigrid for reduced systems: PETSc's PCMG with the prolongations of a discretisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.fem.levels import injected

__all__ = ["SMOOTHING", "distributed", "free_prolongations"]

Integers = npt.NDArray[np.int64]

# PETSc options of one symmetric cycle V(3,3). Chebyshev on [0.1, 1] with the inverse of D_i = Σ_j |A_ij|,
# for which λ(D⁻¹A) <= 1 (Baker, Falgout, Kolev & Yang 2011, SIAM J. Sci. Comput. 33): nothing is
# estimated, so that the cycle is the same on any number of ranks, and I − BA has its eigenvalues in [0,
# 1).
SMOOTHING: dict[str, Any] = {
    "pc_mg_galerkin": "both",
    "mg_levels_ksp_type": "chebyshev",
    "mg_levels_ksp_chebyshev_eigenvalues": "0.1,1.0",
    "mg_levels_ksp_max_it": 3,
    "mg_levels_ksp_norm_type": "none",
    "mg_levels_pc_type": "jacobi",
    "mg_levels_pc_jacobi_type": "rowl1",
}


def free_prolongations(discretisation: Discretisation, constraint: Constraint) -> list[sp.csr_array]:
    """Return the prolongations between the free DoFs of the levels, finest first.

    Args:
        discretisation: with a Lagrange output and two levels at least.
        constraint: that prescribes single DoFs; components of a coarse node are free where those of the
            fine node that matters most to it are.

    Returns:
        (free DoFs, coarse free DoFs) for each level but the coarsest; nested Galerkin spaces.

    Raises:
        SponError: another kind of space or constraint, or one level.
    """
    d, free = discretisation, ~constraint.fixed
    identity = sp.diags_array(free.astype(np.float64))
    nodal = d.decoder.shape == (d.dofs, d.dofs) and abs(sp.csr_array(d.decoder) - identity).max() == 0.0
    if not (nodal and constraint.prescribes):
        raise SponError(
            "multigrid needs a Lagrange space and a constraint that prescribes single DoFs; allowed here: "
            "'direct', 'amg'"
        )
    if len(d.levels) < 2:
        raise SponError("multigrid needs two levels at least; allowed on one level: 'direct', 'amg'")
    components = sp.eye_array(d.cutoff.shape[1])
    rows = np.asarray(sp.csc_array(constraint.Z).indices, dtype=np.int64)  # DoF of each û
    out = []
    for level in d.levels[:-1]:
        P = sp.csr_array(sp.kron(level.prolongation, components))
        fixed = injected(P, ~free)
        columns = np.flatnonzero(~fixed)
        out.append(sp.csr_array(P[rows][:, columns]))
        rows, free = columns, ~fixed
    return out


def distributed(prolongations: list[sp.csr_array], columns: Integers, comm: Any) -> list[PETSc.Mat]:
    """Return prolongations between free DoFs as PETSc matrices. Collective.

    A coarse unknown belongs to the rank of the fine one that matters most to it.

    Args:
        prolongations: finest first.
        columns: numbers of the û that this rank owns, in its order.
        comm: communicator of the matrices.
    """
    parts = comm.allgather(columns)
    numbers, ends = np.concatenate(parts), np.cumsum([len(part) for part in parts])
    out = []
    for P in prolongations:
        entries = sp.coo_array(P[numbers])
        best = np.lexsort((entries.row, -entries.data, entries.col))
        heaviest = entries.row[best][np.unique(entries.col[best], return_index=True)[1]]
        order = np.argsort(heaviest, kind="stable")
        coarse_ends = np.searchsorted(heaviest[order], ends)
        (start, stop), (first, last) = (
            np.append(0, e)[comm.rank : comm.rank + 2] for e in (ends, coarse_ends)
        )
        mine = sp.csr_array(P[numbers[start:stop]][:, order])
        mine.sort_indices()
        csr = mine.indptr.astype(PETSc.IntType), mine.indices.astype(PETSc.IntType), mine.data
        sizes = ((int(stop - start), P.shape[0]), (int(last - first), P.shape[1]))
        out.append(PETSc.Mat().createAIJ(sizes, csr=csr, comm=comm))
        numbers, ends = order, coarse_ends
    return out
