"""What lagged and recycling solvers gain from samples in an order of likeness, and whether that pays.

Run with `./dev run python3 benchmarks/similar.py`; writes results/similar.json and RESULTS.md.
64 samples of problem files, as drawn and in the order of `spon.data.ordering.nearest_neighbour_order`, as
`spon generate --similar` puts them. Lagged: the Krylov method of a `TunedSolver` with PETSc's factorisation,
made anew every eighth sample; GCROT: `RecyclingSolver` (`solver_options = "recycled"`) with as old a
factorisation, for the indefinite problem; factorise: MUMPS for every sample. Tolerance 1e-11. Processor time
of one thread without assembly; fewer iterations: by the order. A solver pays if its last column is below 1.
"""

import os
import time

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
from generate import draw, make
from mpi4py import MPI

import spon
from spon.data.ordering import nearest_neighbour_order
from spon.fem.arms import standard_arms
from spon.fem.recycling import RecyclingSolver

SAMPLES, RTOL = 64, 1e-11


def solvers(problem):
    """Return solvers by name, each of which does one thing."""
    definite, free = problem.definite, problem.constraint.Z.shape[1]
    arms = standard_arms(MPI.COMM_SELF, free, 2, definite, definite, singular=False)
    (lagged,) = [arm for arm in arms if arm.shares]
    (lender,) = [arm for arm in arms if arm.name == lagged.shares]
    kind = {"symmetric": definite, "definite": definite, "rtol": RTOL}
    out = {
        "factorise": spon.TunedSolver(problem.order, problem.constraint, arms[:1], **kind),
        "lagged": spon.TunedSolver(problem.order, problem.constraint, [lender, lagged], **kind),
    }
    if not definite:
        out["GCROT"] = RecyclingSolver(problem.order, problem.constraint, rtol=RTOL, every=8)
    return out


def solve(name, solver):
    """Solve what the solver's system holds, by its last arm alone if it has arms; return iterations."""
    if name == "GCROT":
        solver.solve_loaded()
        return solver.log[-1].preconditioned
    target = RTOL * solver.system.rhs.norm()
    return solver._solvers[-1].attempt(solver.system, target, np.inf).iterations


def rows_of(case):
    problem = make(case)
    inputs = np.array([draw(problem, number) for number in range(SAMPLES)])
    problem.solution(inputs[0])
    found = {}
    for order, places in (("drawn", range(SAMPLES)), ("alike", nearest_neighbour_order(inputs))):
        made = solvers(problem)
        seconds, steps = dict.fromkeys(made, 0.0), dict.fromkeys(made, 0)
        for place in places:
            problem.coefficients.set(inputs[place])
            problem.system.assemble()
            for name, solver in made.items():
                solver.system.load(problem.system.matrix, problem.system.rhs)
                start = time.process_time()
                steps[name] += solve(name, solver)
                seconds[name] += time.process_time() - start
        for name in made:
            found[order, name] = seconds[name], steps[name]
            made[name].destroy()
    direct = found["drawn", "factorise"][0]
    for order, name in found:
        spent, steps = found[order, name]
        row = {"problem": case, "DoFs": problem.discretisation.dofs, "solver": name, "order": order}
        row |= {"iterations": steps / SAMPLES, "fewer iterations": 1 - steps / found["drawn", name][1]}
        yield row | {"ms per sample": 1e3 * spent / SAMPLES, "of factorise": spent / direct}


if __name__ == "__main__":
    from results import record

    record("similar", __doc__, [row for case in ("Helmholtz", "Darcy") for row in rows_of(case)])
