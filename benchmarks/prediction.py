"""Seconds per prediction against seconds per finite-element solve, on the plate refined 1 to 4 times.

Run with `./dev run python3 benchmarks/prediction.py`; writes results/prediction.json and RESULTS.md.
Weights are random: they do not change the time. Both sides use one core, in one run; a solve is
assembly and PETSc's sparse Cholesky for one sample.
"""

import statistics
import time

import torch
from mpi4py import MPI
from results import record

import spon

SAMPLES, BATCH, REPEATS = 16, 16, 5


def median_seconds(call):
    call()
    durations = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def measure(refinements):
    coarse = spon.read_mesh(spon.find_mesh("plate.geo"), MPI.COMM_SELF)
    problem = spon.load_problem(spon.find_problem("plate.py")).Plate(
        spon.Hierarchy.uniform(coarse, refinements)
    )
    data = spon.generate(problem, SAMPLES, seed=0, comm=MPI.COMM_SELF)
    space = problem.discretisation
    model = spon.OperatorNetwork(space, spon.Multigrid(space), "log")
    model.fit_normalisation(data.inputs, data.outputs)
    solve = median_seconds(lambda: [problem.solve(m) for m in data.inputs]) / SAMPLES
    one = median_seconds(lambda: model.predict(data.inputs[:1]))
    batch = median_seconds(lambda: model.predict(data.inputs, BATCH)) / SAMPLES
    return {
        "nodes": space.dofs,
        "FE solve, ms": 1e3 * solve,
        "one prediction, ms": 1e3 * one,
        f"prediction in a batch of {BATCH}, ms": 1e3 * batch,
        "one prediction / FE solve": one / solve,
        "in a batch / FE solve": batch / solve,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    record("prediction", __doc__, [measure(refinements) for refinements in (1, 2, 3, 4)])
