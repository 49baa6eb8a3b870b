"""Data-parallel training over the ranks of an MPI communicator.

Gradients travel by MPI itself and not by torch.distributed: no ports, no second launcher, the
network that the cluster's MPI is tuned for, and sums in an order of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["sum_in_order"]


def sum_in_order(vectors: Sequence[Tensor], parts: int, comm: Comm | None, like: Tensor) -> Tensor:
    """Add up vectors that are spread over the ranks, in an order that the ranks do not change.

    Part k is computed by rank k modulo the number of ranks; the sum runs over k = 0, 1, …, so that
    it is the same to the last bit on any number of ranks. Collective.

    Args:
        vectors: this rank's parts, in order, each of the shape of `like`.
        parts: their number over all ranks.
        comm: the ranks; None: this process alone.
        like: one-dimensional tensor that gives length, dtype and device.

    Returns:
        The sum, on every rank.
    """
    ordered: Sequence[Tensor] = vectors
    if comm is not None and comm.size > 1:
        rows = -(-parts // comm.size)
        mine = torch.zeros(rows, len(like), dtype=like.dtype)
        for row, vector in zip(mine, vectors, strict=False):
            row.copy_(vector)
        gathered = np.empty((comm.size, *mine.shape), mine.numpy().dtype)
        comm.Allgather(mine.numpy(), gathered)
        on_device = torch.from_numpy(gathered).to(like.device)
        ordered = [on_device[k % comm.size, k // comm.size] for k in range(parts)]
    total = torch.zeros_like(like)
    for vector in ordered:
        total += vector
    return total
