"""Data-parallel training over the ranks of an MPI communicator, with torch.distributed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["process_group", "sum_gradients"]


@contextmanager
def process_group(comm: Comm | None) -> Iterator[dist.ProcessGroup | None]:
    """Make a gloo process group of the ranks of an MPI communicator. Collective.

    Rank 0 chooses a free port and broadcasts host and port. One rank needs no group.

    Args:
        comm: the ranks, or None for one process without MPI.

    Yields:
        The group, or None for one rank.
    """
    if comm is None or comm.size == 1:
        yield None
        return
    one_host = len(set(comm.allgather(socket.gethostname()))) == 1
    host, listener = "127.0.0.1" if one_host else socket.gethostname(), None
    if comm.rank == 0:
        listener = socket.create_server(("127.0.0.1" if one_host else "", 0))
    port = comm.bcast(listener.getsockname()[1] if listener else None, root=0)
    if listener:
        listener.close()
    if one_host:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    url = f"tcp://{comm.bcast(host, root=0)}:{port}?use_libuv=0"
    dist.init_process_group(
        "gloo", init_method=url, rank=comm.rank, world_size=comm.size, timeout=timedelta(minutes=10)
    )
    try:
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


def sum_gradients(parameters: Iterable[Tensor], group: dist.ProcessGroup | None) -> None:
    """Add up the gradients of all ranks, in place; a missing gradient counts as zero. Collective.

    Args:
        parameters: the same on every rank.
        group: of the ranks; None does nothing.
    """
    if group is None:
        return
    chosen = list(parameters)
    for p in chosen:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    gradients = [p.grad for p in chosen if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat, group=group)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
