"""Seconds for many diffusion problems with random coefficients: a TunedSolver against each of its arms alone.

Run with `./dev run python3 benchmarks/tuned.py`; writes results/tuned.json and RESULTS.md.
First-order triangles on the unit square, log-normal κ from 16 cosines, tolerance 1e-10, one thread; wall
time, set-up of the preconditioner included, assembly and reduction of the systems, the same for all, not. An
arm alone is a TunedSolver of this one arm, with a factorisation ("last resort") where it fails and while it
rests after that; all solve each system in turn, in an order that changes. "tuned" tries each arm once or
twice, stops those that are slow, and chooses by the clock; arms that share factors are in it only; "after
warm-up" is the mean over the systems after as many as there are arms.
"""

import os
from contextlib import ExitStack

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
import ufl
from dolfinx import fem
from fem_layer import simplices
from mpi4py import MPI

import spon
from spon.fem.arms import standard_arms
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder

CASES = ((40, 300), (150, 60))  # boxes in each direction, systems


def problem(n):
    """Return the order, the constraint, the load and a function that assembles system i."""
    mesh = spon.TaggedMesh(simplices(2, n), MPI.COMM_SELF)
    space = spon.lagrange(mesh)
    constraint = spon.dirichlet(mesh, space, {"left": 0.0, "right": 1.0})
    kappa = fem.Function(fem.functionspace(mesh.dolfinx, ("DG", 0)))
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    form = kappa * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
    p, q = np.meshgrid(np.arange(4), np.arange(4), indexing="ij")

    def matrix(i):
        w = np.random.default_rng(i).standard_normal((4, 4)) / (1 + p + q)
        waves = lambda x: [np.cos(np.pi * np.outer(np.arange(4), s)) for s in x[:2]]  # noqa: E731
        kappa.interpolate(lambda x: np.exp(np.einsum("pq,pn,qn->n", w, *waves(x))))
        return assembled(form)

    return CanonicalOrder(mesh, space), constraint, assembled_vector(v * ufl.dx), matrix


def race(case, arms, systems):
    """Return the logs of each arm alone and of all, by name; every system is solved by all in turn."""
    order, constraint, rhs, matrix = case
    chosen = {arm.name: [arm] for arm in arms if not arm.shares} | {"tuned": None}
    with ExitStack() as stack:
        make = lambda some: stack.enter_context(spon.TunedSolver(order, constraint, some))  # noqa: E731
        solvers = {name: make(some) for name, some in chosen.items()}
        for i in range(systems):
            A = matrix(i)
            for name in np.random.default_rng(i).permutation(list(solvers)):
                solvers[name].solve(A, rhs)
            A.destroy()
        return {name: solver.log for name, solver in solvers.items()}


if __name__ == "__main__":
    rows = []
    for n, systems in CASES:
        case = problem(n)
        free = case[1].Z.shape[1]
        arms = standard_arms(MPI.COMM_SELF, free, 2, symmetric=True, definite=True, singular=False)
        logs = race(case, arms, systems)
        times = {name: np.array([record.seconds for record in log]) for name, log in logs.items()}
        best = min(spent.mean() for name, spent in times.items() if name != "tuned")
        for name, log in logs.items():
            tried = [r.arm for r in logs["tuned"]].count(name)
            row = {"unknowns": free, "systems": systems, "solver": name}
            row["ms per system"] = float(1e3 * times[name].mean())
            row["of the best arm alone"] = float(times[name].mean() / best)
            row["after warm-up"] = float(times[name][len(arms) :].mean() / best)
            row["tried by tuned"] = tried if name != "tuned" else "-"
            row["solved by another"] = sum(bool(r.failure) for r in log)
            rows.append(row)
    from results import record

    record("tuned", __doc__, rows)
