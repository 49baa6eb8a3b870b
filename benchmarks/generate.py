"""Samples per second of the generator, against the loop that a user writes and against each solver alone.

Run with `./dev run python3 benchmarks/generate.py`; writes results/generate.json and RESULTS.md. Inputs are
drawn on all sides. User's loop: for every sample the form, the matrix and DOLFINx's `LinearProblem` with LU;
space, boundary conditions and compiled code are kept. Tuned: `Problem.solution` with a `TunedSolver`, its
trials of all arms included, over 200 samples (fine: 60). Best arm: the quickest of its arms alone, at the
same tolerance, over fewer samples. Each is a process of its own with one thread, timed after a first sample.
Efficiency: two ranks with a mesh each that share the samples, their samples per second over twice those of
one rank.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import time

CASES = {  # file, class, options, refinements, samples, samples of the user's loop and of a single arm
    "Darcy": ("darcy.py", "Darcy", {"kind": "lognormal"}, 2, 200, 50),
    "Darcy, fine": ("darcy.py", "Darcy", {"kind": "lognormal"}, 4, 60, 6),
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
            chosen = [a for a in solver.arms if a.name == arm]
            kind = {"symmetric": self.definite, "definite": self.definite}
            return spon.TunedSolver(self.order, self.constraint, chosen, rtol=solver.rtol, **kind)

    return Timed.from_mesh(None, MPI.COMM_WORLD, MPI.COMM_SELF, refinements, **options)


def draw(problem, number):
    from spon.data.fields import generator

    return problem.vector(problem.sample(generator(0, number)))


def ours(case, arm):
    """Return samples per second of all ranks together, and what solved them."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    problem, samples = make(case, arm), CASES[case][4 if arm is None else 5]
    problem.solution(draw(problem, samples))
    comm.Barrier()
    start = time.perf_counter()
    for number in range(comm.rank, samples, comm.size):
        problem.solution(draw(problem, number))
    comm.Barrier()
    seconds = time.perf_counter() - start
    totals = problem.system.solver.totals()
    most = max(totals, key=lambda name: totals[name].systems)
    return (
        samples / seconds,
        problem.discretisation.dofs,
        f"{most} {totals[most].systems / len(problem.system.solver.log):.0%}",
    )


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
    import numpy as np
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
    start = time.perf_counter()
    for number in range(samples):
        one(number)
    return samples / (time.perf_counter() - start), problem.discretisation.dofs, ""


def arms(case):
    problem = make(case)
    return [arm.name for arm in problem.make_solver(constant=False).arms]


def run(ranks, *arguments):
    command = ["mpirun", "-n", str(ranks), sys.executable, __file__, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def row(case):
    theirs, dofs, _ = run(1, case, "user")
    tuned, _, most = run(1, case, "tuned")
    single = {arm: run(1, case, arm)[0] for arm in run(1, case, "arms")}
    best = max(single, key=lambda name: single[name])
    again, _, _ = run(1, case, "tuned")
    both, _, _ = run(2, case, "tuned")
    one = (tuned + again) / 2
    return {
        "problem": case,
        "DoFs": dofs,
        "user's loop, samples/s": theirs,
        "best arm": best,
        "best arm, samples/s": single[best],
        "tuned, samples/s": one,
        "tuned / user's": one / theirs,
        "tuned / best arm": one / single[best],
        "mostly": most,
        "efficiency on 2 ranks": both / 2 / one,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="?", choices=CASES, help="one run in this process")
    parser.add_argument("method", nargs="?", default="tuned", help="user, tuned, arms or the name of an arm")
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
        found = ours(chosen.case, None if chosen.method == "tuned" else chosen.method)
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(found))
