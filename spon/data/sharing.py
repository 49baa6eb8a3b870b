"""Groups of ranks that share samples: they tell of their progress and end together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
from mpi4py import MPI

__all__ = ["Sharing"]

_COUNT, _HALT = 1, 2
_FINISHED = -1


class Sharing:
    """A share of the samples for each group, with messages between the groups. Collective.

    As a context: at its end the groups wait for each other, and rank 0 tells of their progress
    meanwhile; an exception in one group halts the others after their batch.

    Args:
        comm: all the ranks; rank 0 leads a group.
        group: the ranks that solve a sample together.
        told: called on rank 0 with the number of samples that were finished since.
    """

    def __init__(self, comm: MPI.Comm, group: MPI.Comm, told: Callable[[int], object]) -> None:
        self._comm, self._group, self._told = comm.Dup(), group, told
        leads = np.array(comm.allgather(group.rank == 0))
        self._leaders = [int(rank) for rank in np.flatnonzero(leads)]
        self.groups, self.index = len(self._leaders), int(leads[: comm.rank + 1].sum()) - 1
        self.leads = group.rank == 0
        self._sent: list[MPI.Request] = []
        self._open = self.groups - 1
        self._halted = False

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """Return the samples of this group."""
        return numbers[self.index :: self.groups]

    def tell(self, count: int) -> None:
        """Tell that samples are finished."""
        if not self.leads:
            return
        if self._comm.rank > 0:
            self._sent.append(self._comm.isend(count, dest=0, tag=_COUNT))
            self._sent = [request for request in self._sent if not request.Test()]
            return
        self._told(count)
        while self._comm.iprobe(tag=_COUNT):
            self._receive()

    def _receive(self) -> None:
        count = self._comm.recv(tag=_COUNT)
        if count == _FINISHED:
            self._open -= 1
        else:
            self._told(count)

    def halted(self) -> bool:
        """Whether another group failed, the same on all ranks of this group. Collective over the group."""
        if self.leads:
            self._halted = self._halted or self._comm.iprobe(tag=_HALT)
        if self._group.size > 1:
            self._halted = self._group.bcast(self._halted, root=0)
        return self._halted

    def __enter__(self) -> Sharing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            return  # interrupted: nobody is to be waited for
        if kind is not None and self.leads:
            others = [leader for leader in self._leaders if leader != self._comm.rank]
            self._sent += [self._comm.isend(None, dest=leader, tag=_HALT) for leader in others]
        if self.leads and self._comm.rank > 0:
            self._sent.append(self._comm.isend(_FINISHED, dest=0, tag=_COUNT))
        while self._comm.rank == 0 and self._open > 0:
            self._receive()
        self._comm.Barrier()
        while self._comm.iprobe(tag=_HALT):
            self._comm.recv(tag=_HALT)
        MPI.Request.Waitall(self._sent)
        self._comm.Free()
