"""Generate data sets in memory: samples spread over the ranks."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from spon.data.backends import make_backend, solve_samples
from spon.data.blocks import Block
from spon.data.dataset import Dataset
from spon.errors import SponError, agree
from spon.physics.assembled.problem import Problem
from spon.progress import progress_bar

__all__ = ["check_some_solved", "generate"]


def generate(
    problem: Problem,
    samples: int,
    seed: int = 0,
    comm: MPI.Comm = MPI.COMM_WORLD,
    *,
    strict: bool = False,
    backend: str = "petsc",
    batch_size: int = 1,
) -> Dataset:
    """Draw inputs and solve for the outputs. Collective over `comm`.

    Sample i depends on (seed, i) alone, whatever the number of ranks. Ranks that share the mesh of
    `problem` solve together; groups of ranks share the samples. A sample that cannot be solved is
    missing from the data set and named in its `failures`. `spon generate` writes a file while it
    goes, and resumes.

    Args:
        problem: what to draw and solve; its mesh lives on `MPI.COMM_SELF` or on another part of
            `comm` made of consecutive ranks.
        samples: how many, ≥ 1.
        seed: ≥ 0.
        comm: all the ranks.
        strict: whether one failed sample is an error.
        backend: what solves.
        batch_size: samples solved at a time, ≥ 1.

    Returns:
        The whole data set, on every rank.

    Raises:
        SponError: on all ranks: a bad number, an unknown backend, inputs that cannot be drawn, no sample
            that could be solved, or with `strict` one that could not.
    """
    if samples < 1 or seed < 0:
        raise SponError(f"samples = {samples}, seed = {seed}; allowed: samples >= 1, seed >= 0")
    if batch_size < 1:
        raise SponError(f"batch_size = {batch_size}; allowed: >= 1")
    solver = make_backend(backend, problem)
    leaders = np.array(comm.allgather(problem.comm.rank == 0))
    groups, group = int(leaders.sum()), int(leaders[: comm.rank + 1].sum()) - 1
    numbers = list(range(group, samples, groups))
    with agree(comm):
        blocks = [Block.empty(problem)]  # a boundary that does not exist shows here
        problem.verified_physics  # noqa: B018, wrong physics here
    with agree(comm), progress_bar(len(numbers), "solving", "sample", comm.rank == 0) as bar:
        for block in solve_samples(solver, numbers, seed, batch_size):
            if strict and block.failures:
                check_some_solved(block, seed)
            blocks.append(block)
            bar.update(len(block.done))
    mine = Block.merged(blocks)
    parts = comm.allgather(mine if problem.comm.rank == 0 else None)
    whole = Block.merged([part for part in parts if part is not None])
    check_some_solved(whole, seed)
    return whole.dataset(problem, seed)


def check_some_solved(block: Block, seed: int) -> None:
    """Check that there is a sample that was solved.

    Raises:
        SponError: all failed; with the number of the first and its reason.
    """
    if not len(block.numbers):
        first = block.failures[0]
        others = f", and {len(block.failures) - 1} others" if len(block.failures) > 1 else ""
        raise SponError(f"sample {first.number} (seed {seed}){others} failed: {first.reason}")
