"""Generate data sets: samples spread over the ranks."""

from __future__ import annotations

import time

import numpy as np
from mpi4py import MPI

from spon.data.dataset import Dataset
from spon.data.fields import generator
from spon.errors import SponError, agree
from spon.physics.assembled.problem import Problem
from spon.progress import progress_bar

__all__ = ["generate"]


def generate(problem: Problem, samples: int, seed: int = 0, comm: MPI.Comm = MPI.COMM_WORLD) -> Dataset:
    """Draw inputs and solve for the outputs. Collective over `comm`.

    Sample i depends on (seed, i) alone, whatever the number of ranks. Ranks that share the mesh of
    `problem` solve together; groups of ranks share the samples.

    Args:
        problem: what to draw and solve; its mesh lives on `MPI.COMM_SELF` or on another part of
            `comm` made of consecutive ranks.
        samples: how many, ≥ 1.
        seed: ≥ 0.
        comm: all the ranks.

    Returns:
        The whole data set, on every rank.

    Raises:
        SponError: on all ranks: a bad number, or a solve that failed, with the sample's number.
    """
    if samples < 1 or seed < 0:
        raise SponError(f"samples = {samples}, seed = {seed}; allowed: samples >= 1, seed >= 0")
    leaders = np.array(comm.allgather(problem.comm.rank == 0))
    groups, group = int(leaders.sum()), int(leaders[: comm.rank + 1].sum()) - 1
    numbers = np.arange(group, samples, groups)
    inputs, outputs, seconds = [], [], []
    with agree(comm):
        discretisation = problem.discretisation  # a boundary that does not exist shows here
    with agree(comm), progress_bar(len(numbers), "solving", "sample", comm.rank == 0) as bar:
        for number in numbers:
            inputs.append(problem.sample(generator(seed, int(number))))
            start = time.perf_counter()
            try:
                outputs.append(problem.solve(inputs[-1]))
            except SponError as error:
                raise SponError(f"sample {number} (seed {seed}): {error}") from error
            seconds.append(time.perf_counter() - start)
            bar.update()
    mine = (numbers, np.array(inputs), np.array(outputs), np.array(seconds))
    parts = comm.allgather(mine if problem.comm.rank == 0 and len(numbers) else None)
    gathered = [np.concatenate(p) for p in zip(*(p for p in parts if p is not None), strict=True)]
    order = np.argsort(gathered[0])
    which, drawn, solved, duration = (a[order] for a in gathered)
    names = (problem.input_name, problem.output_name)
    units = (problem.input_units, problem.output_units)
    return Dataset(discretisation, drawn, solved, which, duration, seed, names, units)
