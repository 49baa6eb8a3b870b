"""The Z of a constraint as a distributed PETSc matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from petsc4py import PETSc

from spon.constraint import Constraint
from spon.fem.canonical import CanonicalOrder

__all__ = ["live_prolongation"]


def live_prolongation(
    order: CanonicalOrder, constraint: Constraint
) -> tuple[PETSc.Mat, npt.NDArray[np.int64]]:
    """Return Z in DOLFINx's numbering. Collective.

    A column belongs to a rank that owns most of its entries; of equal ranks to one by turns, so that
    no rank gets all that several share.

    Args:
        order: canonical order of the space.
        constraint: on the space, in canonical order.

    Returns:
        The matrix, (DoFs, free DoFs), and the numbers of the û that this rank owns, in its order.
    """
    comm = order.mesh.comm
    live = order.live_rows(constraint.Z)
    n, free = live.shape
    start, stop = order.space.dofmap.index_map.local_range
    block = order.space.dofmap.index_map_bs
    start, stop = start * block, stop * block
    ends = np.array(comm.allgather(stop))
    entries = sp.coo_array(live)
    rank = np.searchsorted(ends, entries.row, side="right")
    share = sp.csr_array((np.ones(len(rank)), (entries.col, rank)), shape=(free, comm.size)).tocoo()
    turn = (share.row + share.col) % comm.size
    best = np.lexsort((turn, -share.data, share.row))
    column, first = np.unique(share.row[best], return_index=True)
    owner = np.zeros(free, dtype=np.int64)
    owner[column] = share.col[best][first]
    first_row = np.full(free, n)
    mine = rank == owner[entries.col]
    np.minimum.at(first_row, entries.col[mine], entries.row[mine])
    in_order = np.lexsort((first_row, owner))
    number = np.empty(free, dtype=PETSc.IntType)
    number[in_order] = np.arange(free)
    columns = in_order[owner[in_order] == comm.rank]
    rows = live[start:stop]
    sizes = ((stop - start, n), (len(columns), free))
    csr = rows.indptr.astype(PETSc.IntType), number[rows.indices], rows.data
    return PETSc.Mat().createAIJ(sizes, csr=csr, comm=comm), columns
