"""Estimate what a generation will take, from two samples."""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

from spon.data.backends import make_backend, solve_samples
from spon.data.blocks import Block
from spon.data.generation import Generation
from spon.data.targets import check_target
from spon.errors import agree
from spon.physics.assembled.problem import Problem

__all__ = ["Estimate", "estimate"]

_COPIES = 3  # of the data on rank 0 when shards are merged: the shards, the whole, and work space


@dataclass(frozen=True)
class Estimate:
    """What was measured on two samples, and what follows.

    Args:
        first: seconds of the first sample, with compilation; of the slowest group.
        later: seconds of the second one; of the slowest group.
        seconds: to solve all samples.
        peak: bytes of memory that all ranks have used so far together, each at its peak.
        memory: bytes that they will.
        fixed: bytes of a file without samples.
        size: bytes of the file.
        failures: reasons of those of the two samples that failed.
    """

    first: float
    later: float
    seconds: float
    peak: int
    memory: int
    fixed: int
    size: int
    failures: tuple[str, ...]


def estimate(
    problem: Problem, output: str | Path, what: Generation, comm: MPI.Comm = MPI.COMM_WORLD
) -> Estimate:
    """Solve two samples in every group at once, and write nothing that stays. Collective over `comm`.

    Args:
        problem: as for `generate_file`.
        output: file that would be written.
        what: how many samples, and how.
        comm: all the ranks.

    Raises:
        SponError: on all ranks: the output's folder is not writable, inputs that cannot be drawn.
    """
    output = Path(output)
    with agree(comm):
        if comm.rank == 0:
            check_target(output, force=True)
    with agree(comm):
        backend = make_backend(what.backend, problem)
        problem.verified_physics  # noqa: B018, collective
        blocks, seconds = [Block.empty(problem)], []
        clock = time.perf_counter()
        for block in solve_samples(backend, [0, 1], what.seed):
            blocks.append(block)
            seconds.append(time.perf_counter() - clock)
            clock = time.perf_counter()
    whole = Block.merged(blocks)
    fixed = 0
    with agree(comm):
        if comm.rank == 0:
            fixed = _file_size(blocks[0], problem, what, output.parent)
    fixed = comm.bcast(fixed)
    numbers = 3 + len(whole.statistics)  # of a solved sample: its number, statistics, and some to spare
    sample = 8 * (whole.inputs.shape[1] + whole.outputs.shape[1] + numbers)
    groups = comm.allreduce(int(problem.comm.rank == 0))
    first, later = (comm.allreduce(s, MPI.MAX) for s in seconds)
    rounds = int(np.ceil(what.samples / groups))
    peak = comm.allreduce(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return Estimate(
        first,
        later,
        first + (rounds - 1) * later,
        peak,
        peak + _COPIES * what.samples * sample,
        fixed,
        fixed + what.samples * sample,
        tuple(f.reason for f in whole.failures),
    )


def _file_size(empty: Block, problem: Problem, what: Generation, folder: Path) -> int:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".dry-run.") as temporary:
        file = Path(temporary) / "empty.h5"
        empty.dataset(problem, what.seed).save(file)
        return file.stat().st_size
