"""Samples per second of the generator, against the loop that a user writes and the quickest solver alone.

Run with `./dev run python3 benchmarks/generate.py`; writes results/generate.json and RESULTS.md. Inputs are
drawn on all sides. User's loop: for every sample the form, the matrix and DOLFINx's `LinearProblem` with LU;
space, boundary conditions and compiled code are kept. Tuned: `Problem.solution` with a `TunedSolver`, its
trials of all arms included, over 200 samples. Best arm: the one that took least for one of 4
systems, alone, over as many samples at the same tolerance. Each is a process of its own with one thread,
after a first sample; best arm and tuned take turns twice, and the better of each counts.

Seconds are processor time, which other work on the machine disturbs less than the clock (the tuned solver
goes by the clock); load: processes that wanted the two cores meanwhile, the benchmark among them. Two ranks
have a mesh each and share the samples and what they find out about solvers. Efficiency: their samples per
processor second over those of one rank. By the clock: their samples per second over those of two ranks with
the best arm alone, at the same load.

Bound: the user's seconds over those of the quickest solver's factorisation (or iterations) and solve alone.
No assembly, however quick, gets beyond. Assembled: what assembly and reduction of the matrix take of a
sample; mapped: what they take where the matrix is affine in the input and a sparse product replaces them (it
is made after 20 samples).
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CASES = {  # file, class, options, refinements, samples, samples of the user's loop
    "Darcy": ("darcy.py", "Darcy", {"kind": "lognormal"}, 2, 200, 50),
    "Darcy, fine": ("darcy.py", "Darcy", {"kind": "lognormal"}, 4, 200, 6),
    "elasticity": ("elasticity.py", "Elasticity", {}, 3, 200, 20),
    "Helmholtz": ("helmholtz.py", "Helmholtz", {}, 1, 200, 20),
}


def make(case, arm=None):
    from mpi4py import MPI

    import spon

    file, name, options, refinements, *_ = CASES[case]
    base = getattr(spon.load_problem(spon.find_problem(file)), name)

    class Timed(base):
        def make_solver(self, constant):
            solver = super().make_solver(constant)
            if arm is None:
                return solver
            (wanted,) = [a for a in solver.arms if a.name == arm]
            chosen = [a for a in solver.arms if a.name in (arm, wanted.shares)]
            kind = {"symmetric": self.definite, "definite": self.definite}
            return spon.TunedSolver(self.order, self.constraint, chosen, rtol=solver.rtol, **kind)

    return Timed.from_mesh(None, MPI.COMM_WORLD, MPI.COMM_SELF, refinements, **options)


def draw(problem, number):
    from spon.data.fields import generator

    return problem.vector(problem.sample(generator(0, number)))


def ours(case, arm, folder=None):
    """Return samples per second of all ranks together, the same by processor time, DoFs, and what solved.

    Args:
        case: name.
        arm: of the solver; None: tuned.
        folder: where ranks share what they find out; None: they do not.
    """
    from mpi4py import MPI

    from spon.data.costs import SharedCosts

    comm = MPI.COMM_WORLD
    problem, samples = make(case, arm), CASES[case][4]
    problem.solution(draw(problem, samples))
    comm.Barrier()
    start, cpu = time.perf_counter(), time.process_time()
    if folder is not None:
        shared = SharedCosts(Path(folder), problem.system.solver, MPI.COMM_SELF, comm.rank, comm.size)
    for number in range(comm.rank, samples, comm.size):
        problem.solution(draw(problem, number))
        if folder is not None:
            shared.exchange()
    cpu = comm.allreduce(time.process_time() - cpu)
    comm.Barrier()
    seconds = time.perf_counter() - start
    totals = problem.system.solver.totals()
    most = max(totals, key=lambda name: totals[name].systems)
    name = f"{most} {totals[most].systems / len(problem.system.solver.log):.0%}"
    return samples / seconds, comm.size * samples / cpu, problem.discretisation.dofs, name


def conditions(problem):
    """Boundary conditions as a user writes them."""
    from dolfinx import fem

    mesh, V = problem.hierarchy.finest, problem.space
    out = []
    for name, value in problem.boundary_values.items():
        facets = mesh.facets(name)
        if callable(value):
            g = fem.Function(V)
            g.interpolate(value)
            out.append(fem.dirichletbc(g, fem.locate_dofs_topological(V, 1, facets)))
        elif isinstance(value, tuple):
            for k, component in enumerate(value):
                if component is not None:
                    dofs = fem.locate_dofs_topological(V.sub(k), 1, facets)
                    out.append(fem.dirichletbc(component, dofs, V.sub(k)))
        else:
            out.append(fem.dirichletbc(value, fem.locate_dofs_topological(V, 1, facets), V))
    return out


def user(case):
    """Return samples per second of the loop that a DOLFINx user writes."""
    import ufl
    from dolfinx import fem
    from dolfinx.fem.petsc import LinearProblem

    problem, samples = make(case), CASES[case][5]
    V, bcs = problem.space, conditions(problem)
    encoder = next(iter(problem.encoders.values()))
    prefix = "petsc_options_prefix" in inspect.signature(LinearProblem).parameters
    more = {"petsc_options_prefix": "user_"} if prefix else {}

    def one(number):
        m = fem.Function(encoder.live)
        encoder.order.scatter(draw(problem, number), m)
        u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
        form = problem.residual(u, m, v) - ufl.inner(fem.Constant(V.mesh, np.zeros(u.ufl_shape)), v) * ufl.dx
        options = {"ksp_type": "preonly", "pc_type": "lu"}
        linear = LinearProblem(ufl.lhs(form), ufl.rhs(form), bcs=bcs, petsc_options=options, **more)
        return linear.solve()

    gap = problem.order.gather(one(samples).x.array) - problem.solve(draw(problem, samples))
    assert np.abs(gap).max() <= 1e-6 * np.abs(gap + 1).max()  # the same problem
    start = time.process_time()
    for number in range(samples):
        one(number)
    return samples / (time.process_time() - start), problem.discretisation.dofs, ""


def spend(solver, system, target):
    """Return the processor seconds that an arm takes for a system, infinity if more than 3 by the clock."""
    start = time.process_time()
    tried = solver.attempt(system, target, 3.0)
    used = time.process_time() - start
    return np.inf if tried.failure else used * tried.charge / (tried.setup + tried.iterating)


def arms(case, systems=5):
    """Return the quickest arm, its seconds, and those of assembly with reduction and of the map instead."""
    problem = make(case)
    problem.solution(draw(problem, 0))
    system = problem.system
    solver, seconds, made = system.solver, [], []
    for number in range(systems):
        problem.coefficients.set(draw(problem, number))
        start = time.process_time()
        system.assemble()
        solver.system.load(system.matrix, system.rhs)
        made.append(time.process_time() - start)
        target = solver.rtol * solver.system.rhs.norm()
        spent = [spend(one, solver.system, target) for one in reversed(solver._solvers)]  # lagged first
        seconds.append(spent[::-1])
    least = np.min(seconds[1:], axis=0)
    mapped = []
    for number in range(20):
        problem.solution(draw(problem, number))
    for number in range(systems if system._affine is not None else 0):
        problem.coefficients.set(draw(problem, number))
        start = time.process_time()
        system._assemble_rhs()
        system._affine.load(system.rhs)
        mapped.append(time.process_time() - start)
    best = int(least.argmin())
    return solver.arms[best].name, least[best], min(made), min(mapped) if mapped else None


def run(ranks, *arguments):
    command = ["mpirun", "-n", str(ranks), sys.executable, __file__, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arguments} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def turns(case, best, ranks, count):
    """Return the best of some turns of the best arm and of the tuned solver, by clock and processor."""
    alone, tuned = np.zeros(2), np.zeros(2)
    for _ in range(count):
        *rates, _, _ = run(ranks, case, best)
        alone = np.maximum(alone, rates)
        with tempfile.TemporaryDirectory() as folder:
            *rates, dofs, most = run(ranks, case, "tuned", folder)
        tuned = np.maximum(tuned, rates)
    return alone, tuned, dofs, most


def row(case):
    best, seconds, made, mapped = run(1, case, "arms")
    theirs = max(run(1, case, "user")[0] for _ in range(2))
    alone, tuned, dofs, most = turns(case, best, 1, 2)
    both_alone, both_tuned, _, _ = turns(case, best, 2, 1)
    return {
        "problem": case,
        "DoFs": dofs,
        "user's loop, samples/s": theirs,
        "best arm": best,
        "best arm, samples/s": alone[1],
        "tuned, samples/s": tuned[1],
        "tuned / user's": tuned[1] / theirs,
        "bound": 1 / (theirs * seconds),
        "tuned / best arm": tuned[1] / alone[1],
        "mostly": most,
        "assembled, ms": 1e3 * made,
        "mapped, ms": "-" if mapped is None else 1e3 * mapped,
        "efficiency on 2 ranks": both_tuned[1] / tuned[1] / 2,
        "of the best arm": both_alone[1] / alone[1] / 2,
        "by the clock": both_tuned[0] / both_alone[0],
        "load": os.getloadavg()[1],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="?", choices=CASES, help="one run in this process")
    parser.add_argument("method", nargs="?", default="tuned", help="user, tuned, arms or the name of an arm")
    parser.add_argument("folder", nargs="?", help="where ranks share what they find out")
    chosen = parser.parse_args()
    if chosen.case is None:
        from results import record

        record("generate", __doc__, [row(case) for case in CASES])
        sys.exit()
    from mpi4py import MPI

    if chosen.method == "arms":
        found = arms(chosen.case)
    elif chosen.method == "user":
        found = user(chosen.case)
    else:
        found = ours(chosen.case, None if chosen.method == "tuned" else chosen.method, chosen.folder)
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(found))
