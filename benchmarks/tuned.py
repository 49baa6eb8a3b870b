"""Seconds for many diffusion problems with random coefficients: a TunedSolver against each of its arms alone.

Run with `./dev run python3 benchmarks/tuned.py`; writes results/tuned.json and RESULTS.md.
First-order triangles on the unit square, log-normal κ from 16 cosines, tolerance 1e-10, one thread; set-up
of the preconditioner included, assembly and reduction of the systems, the same for all, not. An arm alone is a
TunedSolver of this one arm, with a factorisation where it fails. "tuned" tries each arm once and chooses by
the clock; "after warm-up" is its mean over the systems after that.
"""

import os
import sys

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

CASES = ((40, 300), (200, 100))  # boxes in each direction, systems


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


def seconds(case, arms, systems):
    """Return the seconds of each system and the log."""
    order, constraint, rhs, matrix = case
    with spon.TunedSolver(order, constraint, arms) as solver:
        for i in range(systems):
            A = matrix(i)
            solver.solve(A, rhs)
            A.destroy()
        return np.array([record.seconds for record in solver.log]), solver.log


if __name__ == "__main__":
    rows = []
    for n, systems in CASES:
        case = problem(n)
        free = case[1].Z.shape[1]
        arms = standard_arms(MPI.COMM_SELF, free, 2, symmetric=True, definite=True, singular=False)
        alone = {arm.name: seconds(case, [arm], systems) for arm in arms}
        taken, log = seconds(case, None, systems)
        best = min(taken_alone.mean() for taken_alone, _ in alone.values())
        for name, (one, records) in {**alone, "tuned": (taken, log)}.items():
            row = {"unknowns": free, "systems": systems, "solver": name, "ms per system": 1e3 * one.mean()}
            row["of the best arm alone"] = one.mean() / best
            row["after warm-up"] = one[len(arms) :].mean() / best
            row["chosen by tuned"] = sum(r.arm == name for r in log) if name != "tuned" else len(log)
            row["failures"] = sum(bool(r.failure) for r in records)
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    from results import record

    record("tuned", __doc__, rows)
