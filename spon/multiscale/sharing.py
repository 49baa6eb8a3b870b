"""Points of all ranks, shared out evenly: each is solved on one rank and answered on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spon.errors import agree
from spon.multiscale.micromodel import MicroModel, Response

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["Sharing", "shares"]


def shares(numbers: list[int], homes: dict[int, int], ranks: int) -> list[int]:
    """Return the rank that solves each point; no rank gets more than one point above another's.

    Args:
        numbers: of the points, in rising order.
        homes: rank that solved a point last.
        ranks: how many there are.
    """
    least, more = divmod(len(numbers), ranks)
    counts, out = [0] * ranks, [-1] * len(numbers)
    for place, number in enumerate(numbers):
        home = homes.get(number, -1)
        if home >= 0 and counts[home] < least + (more > 0):
            more -= counts[home] == least
            counts[home] += 1
            out[place] = home
    for place, rank in enumerate(out):
        if rank < 0:
            rank = min(range(ranks), key=counts.__getitem__)
            counts[rank] += 1
            out[place] = rank
    return out


class Sharing:
    """Remembers where points were solved, the same on every rank."""

    def __init__(self) -> None:
        self._homes: dict[int, int] = {}

    def respond(self, model: MicroModel, strain: Tensor, where: Tensor, comm: Comm) -> Response:
        """Return the response to this rank's points. Collective.

        Args:
            model: the same on every rank; its `respond` does not communicate.
            strain: (batch, n) of this rank's points, which may be none.
            where: (batch,) their numbers, each on one rank alone.
            comm: communicator.

        Raises:
            SponError: on all ranks, what the model raises on any.
        """
        if comm.size == 1:
            return model.respond(strain, where)
        asked = comm.allgather((where.numpy(), strain.numpy()))
        numbers, strains = (np.concatenate([part[k] for part in asked]) for k in range(2))
        order = np.argsort(numbers)
        numbers, strains = numbers[order], strains[order]
        ranks = shares(numbers.tolist(), self._homes, comm.size)
        self._homes.update(zip(numbers.tolist(), ranks, strict=True))
        mine = np.flatnonzero(np.array(ranks, dtype=np.int64) == comm.rank)
        with agree(comm):
            found = model.respond(torch.from_numpy(strains[mine]), torch.from_numpy(numbers[mine]))
        parts = comm.allgather((mine, found.stress.numpy(), found.tangent.numpy(), found.failed.numpy()))
        solved, *values = (np.concatenate([part[k] for part in parts]) for k in range(4))
        rows = np.argsort(solved)[np.searchsorted(numbers, where.numpy())]
        stress, tangent, failed = (torch.from_numpy(value[rows]) for value in values)
        return Response(stress, tangent, None, failed)
