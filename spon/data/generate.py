"""Generate data sets: samples spread over the ranks."""

from __future__ import annotations

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
    inputs, outputs, statistics = [], [], []
    with agree(comm):
        discretisation = problem.discretisation  # a boundary that does not exist shows here
    with agree(comm), progress_bar(len(numbers), "solving", "sample", comm.rank == 0) as bar:
        for number in numbers:
            inputs.append(problem.vector(problem.sample(generator(seed, int(number)))))
            try:
                solution = problem.solution(inputs[-1])
            except SponError as error:
                raise SponError(f"sample {number} (seed {seed}): {error}") from error
            outputs.append(solution.values)
            statistics.append(solution.statistics)
            bar.update()
    mine = (
        numbers,
        np.array(inputs),
        np.array(outputs),
        *map(np.array, zip(*_rows(statistics), strict=True)),
    )
    names = sorted(statistics[0]) if statistics else []
    parts = comm.allgather((names, mine) if problem.comm.rank == 0 and len(numbers) else None)
    found = [p for p in parts if p is not None]
    gathered = [np.concatenate(p) for p in zip(*(arrays for _, arrays in found), strict=True)]
    order = np.argsort(gathered[0])
    which, drawn, solved, *measured = (a[order] for a in gathered)
    return Dataset(
        discretisation,
        drawn,
        solved,
        which,
        seed,
        problem.output_name,
        dict(problem.units),
        dict(problem.boundary_data),
        dict(zip(found[0][0], measured, strict=True)),
    )


def _rows(statistics: list[dict[str, float]]) -> list[list[float]]:
    return [[values[name] for name in sorted(values)] for values in statistics]
