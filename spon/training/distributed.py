"""Processes that train together: over MPI, over torch.distributed, or one alone.

Sums run in an order of our own, so that the number of processes does not change them.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["MpiRanks", "Ranks", "TorchRanks", "as_ranks", "started_by_torchrun", "sum_in_order"]


class Ranks:
    """The processes that share a run; this base class is one process alone.

    Attributes:
        rank: of this process.
        size: number of processes.
    """

    rank = 0
    size = 1

    def allgather(self, value: Any) -> list[Any]:
        """Return the value of every process, on every process. Collective."""
        return [value]

    def gather(self, mine: Tensor) -> Tensor:
        """Return tensors of equal shape from all processes, (size, …) on the device of `mine`. Collective."""
        return mine[None]

    @cached_property
    def local_rank(self) -> int:
        """Number of this process among those on the same machine. Collective."""
        machines = self.allgather(platform.node())
        return machines[: self.rank].count(machines[self.rank])


class MpiRanks(Ranks):
    """The ranks of an MPI communicator; tensors on a GPU travel by host copies.

    Args:
        comm: communicator.
    """

    def __init__(self, comm: Comm) -> None:
        self._comm = comm
        self.rank, self.size = comm.rank, comm.size

    def allgather(self, value: Any) -> list[Any]:
        """Return the value of every rank, on every rank. Collective."""
        found: list[Any] = self._comm.allgather(value)
        return found

    def gather(self, mine: Tensor) -> Tensor:
        """Return tensors of equal shape from all ranks, (size, …) on the device of `mine`. Collective."""
        host = mine.detach().cpu().contiguous().numpy()
        gathered = np.empty((self.size, *host.shape), host.dtype)
        self._comm.Allgather(host, gathered)
        return torch.from_numpy(gathered).to(mine.device)


class TorchRanks(Ranks):
    """The processes that torchrun started: gloo for the CPU, NCCL for GPUs; no MPI. They `leave` in the end.

    Args:
        device: "cpu" or "cuda", where the tensors will be.
    """

    def __init__(self, device: str) -> None:
        import torch.distributed as dist

        os.environ.setdefault("USE_LIBUV", "0")  # Debian's torch is built without
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
        self._dist = dist
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def allgather(self, value: Any) -> list[Any]:
        """Return the value of every process, on every process. Collective."""
        found: list[Any] = [None] * self.size
        self._dist.all_gather_object(found, value)
        return found

    def gather(self, mine: Tensor) -> Tensor:
        """Return tensors of equal shape from all processes, (size, …) on the device of `mine`. Collective."""
        found = [torch.empty_like(mine) for _ in range(self.size)]
        self._dist.all_gather(found, mine.detach().contiguous())
        return torch.stack(found)

    def leave(self, status: int) -> NoReturn:
        """End this process, once all have come here. Collective.

        Neither `destroy_process_group` nor the end of the interpreter: both wait, while they hold the
        interpreter's lock, for a thread of gloo that may want it to let go of the last tensor
        (https://github.com/pytorch/pytorch/issues/75097).

        Args:
            status: of the process.
        """
        self.allgather(None)  # torchrun ends all as soon as one fails
        self.abort(status)

    @staticmethod
    def abort(status: int) -> NoReturn:
        """End this process without the others."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def started_by_torchrun() -> bool:
    """Whether this process is one of torchrun's."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def as_ranks(comm: Comm | Ranks | None) -> Ranks:
    """Return the processes of an MPI communicator, or this one alone for None."""
    if comm is None:
        return Ranks()
    return comm if isinstance(comm, Ranks) else MpiRanks(comm)


def sum_in_order(vectors: Sequence[Tensor], parts: int, ranks: Ranks, like: Tensor) -> Tensor:
    """Add up vectors that are spread over the ranks, in an order that the ranks do not change.

    Part k is computed by rank k modulo the number of ranks; the sum runs over k = 0, 1, …, so that
    it is the same to the last bit on any number of ranks. Collective.

    Args:
        vectors: this rank's parts, in order, each of the shape of `like`.
        parts: their number over all ranks.
        ranks: the processes.
        like: one-dimensional tensor that gives length, dtype and device.

    Returns:
        The sum, on every rank.
    """
    ordered: Sequence[Tensor] = vectors
    if ranks.size > 1:
        mine = like.new_zeros(-(-parts // ranks.size), len(like))
        for row, vector in zip(mine, vectors, strict=False):
            row.copy_(vector)
        gathered = ranks.gather(mine)
        ordered = [gathered[k % ranks.size, k // ranks.size] for k in range(parts)]
    total = torch.zeros_like(like)
    for vector in ordered:
        total += vector
    return total
