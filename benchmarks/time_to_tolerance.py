"""Milliseconds to a solution of given accuracy: from a prediction, from zero, and by PETSc.

Run with `./dev run python3 benchmarks/time_to_tolerance.py`; writes results/time_to_tolerance.json and
RESULTS.md. Data and trained networks are kept (`--cache`), and so are the rows of problems that are not
asked for (`--problems`).

Processor milliseconds of one thread for each sample, on 100 test samples (of the nonlinear problem 16, by
PETSc 2) that no network was trained on, until every sample's energy error is at most 1e-2, 1e-4 and 1e-8 of
the energy norm of its solution. True errors: against a solution to 1e-12. Each method has a tolerance of its
own, the largest of tolerance · 10^(−k/2) with which that is so; tries before do not count, on any side.
All work that differs from sample to sample counts: assembly or the map that replaces it, factors, levels,
and the prediction.

"torch": `MultigridSolver`, the samples in one batch, from zero (load steps for the nonlinear problem) or from
the prediction of a network; 600 training samples (150 of the nonlinear problem), 60 s of processor time for
training at one learning rate. "Multigrid" knows no equations, "Multigrid+cycle" learns the correction to one
of their cycles, "LearnedCorrection" learns the smoothers of two. "PETSc": one sample after the other, by the
quickest arm of the generator (`spon.fem.arms`) alone, each measured at this tolerance; for the nonlinear
problem, Newton's method in load steps with the arms' linear solvers. "PETSc, prediction": its quickest
iterative arm, from the best of the predictions (for the nonlinear problem without load steps).

"of PETSc": milliseconds over those of "PETSc" at this tolerance; the aim is 0.5 at 1e-4. "steps": mean
iterations of conjugate gradients (of all Newton steps together), for PETSc of Newton's method where the
problem is nonlinear. "starts at": the largest relative energy error of the predictions.

For these linear problems in the plane no network pays over the plain batched multigrid: a whole solve to
1e-4 takes four to seven iterations, and a prediction by Multigrid or LearnedCorrection costs more than these.
The aim is missed there. "LowRank" predicts at a small cost, but saves hardly an iteration. A solve of the
nonlinear problem costs so much that the prediction is nearly free; what it saves depends on its energy error.
The aim is met there, and by the start from zero too.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
import torch
from fitting import fit
from mpi4py import MPI
from operators import CACHE, OURS, make_problem
from results import record

import spon
from spon.fem.arms import standard_arms
from spon.nn.processors import find_processor
from spon.physics.assembled.system import NonlinearSystem

RESULT = Path(__file__).parent / "results" / "time_to_tolerance.json"
TOLERANCES = (1e-2, 1e-4, 1e-8)
TRAINING_SECONDS = 60.0
TESTED = 100  # samples
TESTED_NONLINEAR, PETSC_NONLINEAR = 16, 2
REPEATS, ENOUGH = 5, 20.0  # runs of which the quickest counts; seconds after which there is no further one
TRIES = 9  # of a solver's own tolerance

# name in the table → processor, settings, learning rate
NETWORKS = {
    "Multigrid": ("Multigrid", {}, 6e-3),
    "Multigrid+cycle": ("Multigrid", {"guess": "start"}, 6e-3),
    "LearnedCorrection": ("LearnedCorrection", {}, 1e-2),
    "LowRank": ("LowRank", {}, 3e-3),
}
# problem → networks, transform of the first input, samples for training and validation
PROBLEMS = {
    "darcy": (("Multigrid", "LearnedCorrection", "LowRank"), "identity", (600, 50)),
    "plate": (("Multigrid", "LearnedCorrection", "LowRank"), "log", (600, 50)),
    "elasticity": (("Multigrid", "LearnedCorrection", "LowRank"), "log", (600, 50)),
    "hyperelasticity": (("Multigrid", "Multigrid+cycle", "LowRank"), "identity", (150, 20)),
}
REFINEMENTS = {"plate": 3}  # elsewhere 2


# ------------------------------------------------------------- data and networks


def made(name):
    """Return the problem on one rank."""
    refinements = REFINEMENTS.get(name, 2)
    if name != "hyperelasticity":
        return make_problem(name, refinements)
    module = spon.load_problem(spon.find_problem("hyperelasticity.py"))
    return module.Hyperelasticity.from_mesh(group=MPI.COMM_SELF, refinements=refinements)


def data(name, problem, cache):
    """Return training, validation and test samples, made where they are missing; tests solved to 1e-12."""
    sizes = (*PROBLEMS[name][2], TESTED)
    path = cache / f"tolerance-{name}-{'-'.join(map(str, sizes))}.h5"
    if not path.exists():
        print(f"generating {path}", flush=True)
        dataset = spon.generate(
            problem, sum(sizes), seed=0, comm=MPI.COMM_SELF, strict=True, backend="torch", batch_size=25
        )
        replace(dataset, sizes=sizes).save(path)
    return spon.Dataset.load(path).parts()


def network(name, kind, parts, cache):
    """Return a trained network, trained where it is missing."""
    path = cache / f"tolerance-{name}-{kind}.pt"
    if not path.exists():
        processor, settings, rate = NETWORKS[kind]
        torch.manual_seed(0)
        made_of = find_processor(processor)(parts[0].discretisation, **settings)
        made_of.use(parts[0].physics)
        model = spon.OperatorNetwork(parts[0].discretisation, made_of, PROBLEMS[name][1])
        found = fit(model, parts, OURS, rate, 0, TRAINING_SECONDS)
        print(f"{name} {kind}: {found['steps']} steps, L2 {found['curve'][-1][3]:.3g}", flush=True)
        spon.save_model(path, model, parts[0])
    return spon.load_model(path)


def energy_errors(kernel, u, reference, m):
    """Return relative errors in the energy norm of each sample, of the tangent at its solution."""
    norms = []
    for k in range(0, len(m), 25):
        some = slice(k, k + 25)
        at = None if kernel.linear else reference[some]
        for v in (u[some] - reference[some], reference[some]):
            norms.append((kernel.jacobian(at, m[some], v) * v).sum(dim=1).clamp_min(0.0).sqrt())
    return torch.cat(norms[::2]) / torch.cat(norms[1::2])


# ---------------------------------------------------------------------- measuring


def timed(call, repeats=REPEATS):
    """Return what a call returned and the processor seconds of the quickest run."""
    least, spent = np.inf, 0.0
    for _ in range(repeats):
        start = time.process_time()
        found = call()
        seconds = time.process_time() - start
        least, spent = min(least, seconds), spent + seconds
        if spent > ENOUGH:
            break
    return found, least


def to_tolerance(solve, error, tolerance, repeats=REPEATS):
    """Return seconds, iterations with the loosest tolerance of a solver that makes all errors small enough.

    Args:
        solve: its tolerance → (solutions, iterations), or None where it fails.
        error: solutions → the largest relative energy error.
        tolerance: of that error.
        repeats: runs of which the quickest counts.
    """
    for k in range(TRIES):
        own = tolerance * 10.0 ** (-k / 2)
        found, seconds = timed(lambda own=own: solve(own), 1)
        if found is not None and error(found[0]) <= tolerance:
            if repeats > 1:
                seconds = min(seconds, timed(lambda own=own: solve(own), repeats - 1)[1])
            return seconds, float(np.mean(found[1]))
    return np.inf, np.nan


def by_torch(solver, model, m, error, tolerance):
    """Return seconds and iterations of the batched solver, from predictions; without a model, from zero."""

    def solve(own):
        guess = None if model is None else torch.as_tensor(model.predict(m.numpy()))
        u, info = solver.solve(None, m, own, guess=guess)
        return u, info.iterations.numpy()

    return to_tolerance(solve, error, tolerance, REPEATS if solver.kernel.linear else 1)


class LinearPetsc:
    """PETSc on the reduced systems of a linear problem, with one arm for all of them.

    Args:
        problem: with `solver_options = "tuned"`.
        inputs: (samples, DoFs of all inputs).
    """

    def __init__(self, problem, inputs):
        self.problem, self.inputs = problem, inputs
        for m in inputs[:25]:  # until the matrix is mapped, and every arm is set up
            problem.solution(m)
        self.solver = problem.system.solver
        self.arms = {solver.arm.name: solver for solver in self.solver._solvers}

    def iterative(self, name):
        """Whether an arm can make use of a guess."""
        return self.arms[name].arm.options["ksp_type"] != "preonly"

    def solve(self, name, own, guess=None):
        """Return solutions and iterations, None where the arm fails."""
        problem, solver, arm, found, steps = self.problem, self.solver, self.arms[name], [], []
        for k, m in enumerate(self.inputs):
            problem.coefficients.set(m)
            problem.system._assemble_rhs()
            problem.system._affine.load(problem.system.rhs)
            system = solver.system
            size, start = system.rhs.norm(), None
            if guess is not None:  # solve for the correction; Z has orthonormal columns here
                start = system.x.duplicate()
                live = system._shift.duplicate()
                live.array_w[:] = problem.order.to_live(guess[k])
                live.axpy(-1.0, system._shift)
                system.Z.multTranspose(live, start)
                system.rhs.axpy(-1.0, system.matrix * start)
            tried = arm.attempt(system, own * size, np.inf)
            if tried.failure:
                return None
            if start is not None:
                system.x.axpy(1.0, start)
            found.append(problem.order.gather(system.solution()))
            steps.append(tried.iterations)
        return torch.as_tensor(np.array(found)), steps


class NonlinearPetsc:
    """PETSc's Newton method, with the linear solver of one arm; as `LinearPetsc`."""

    def __init__(self, problem, inputs):
        self.problem, self.inputs, self.basic = problem, inputs, dict(problem.solver_options)
        free = problem.constraint.Z.shape[1]
        arms = standard_arms(MPI.COMM_SELF, free, 3, True, True, False, components=3)
        self.arms = {arm.name: dict(arm.options) for arm in arms if not arm.shares}

    def iterative(self, name):
        """Whether an arm can make use of a guess: all, Newton's method does."""
        return True

    def solve(self, name, own, guess=None):
        """Return solutions and Newton steps, None where the method fails."""
        problem, options, found, steps = self.problem, dict(self.arms[name]), [], []
        if options["ksp_type"] != "preonly":
            options |= {"snes_ksp_ew": True}
        problem.solver_options = self.basic | options | {"snes_rtol": own}
        newton = NonlinearSystem(problem)._solver
        try:
            for k, m in enumerate(self.inputs):
                problem.coefficients.set(m)
                start = None if guess is None else guess[k]
                load_steps = problem.load_steps if guess is None else 1
                found.append(problem.order.gather(newton.solve(None, start, load_steps)))
                steps.append(newton.statistics.iterations)
        except spon.SponError as error:
            print(f"{name}, {own:g}: {error}", flush=True)
            return None
        finally:
            newton.destroy()
        return torch.as_tensor(np.array(found)), steps


def by_petsc(petsc, names, error, tolerance, predict=None):
    """Return seconds and iterations of the quickest of the arms, and its name."""
    linear = isinstance(petsc, LinearPetsc)
    best = np.inf, np.nan, "-"
    for name in names:

        def solve(own, name=name):
            return petsc.solve(name, own, None if predict is None else predict(petsc.inputs))

        seconds, steps = to_tolerance(solve, error, tolerance, 2 if linear else 1)
        if seconds < best[0]:
            best = seconds, steps, name
    return best


def measured(name, problem, parts, models):
    """Return the rows of a problem."""
    test = parts[2] if problem.linear else parts[2][:TESTED_NONLINEAR]
    m, reference = torch.as_tensor(test.inputs), torch.as_tensor(test.outputs)
    solver = spon.MultigridSolver(problem.discretisation, problem.physics())
    kernel = solver.kernel

    def largest(u):
        return float(energy_errors(kernel, u, reference[: len(u)], m[: len(u)]).max())

    reference, _ = solver.solve(None, m, 1e-12, guess=reference)
    entries, start = {}, {"torch, zero": "-"}
    for kind, model in {"zero": None, **models}.items():
        title = f"torch, {kind}"
        if model is not None:
            start[title] = largest(torch.as_tensor(model.predict(test.inputs)))
        entries[title] = [by_torch(solver, model, m, largest, t) for t in TOLERANCES]
        entries[title] = [(1e3 * s / len(m), steps, "") for s, steps in entries[title]]
        print(name, title, entries[title], flush=True)
    linear = kernel.linear
    petsc = (LinearPetsc if linear else NonlinearPetsc)(
        problem, test.inputs[: None if linear else PETSC_NONLINEAR]
    )
    count, best = (
        len(petsc.inputs),
        min(start, key=lambda k: start[k] if k in start and start[k] != "-" else np.inf),
    )
    predict = models[best.removeprefix("torch, ")].predict
    arms = [arm for arm in petsc.arms if petsc.iterative(arm)]
    for title, names, guess in (("PETSc", list(petsc.arms), None), ("PETSc, prediction", arms, predict)):
        found = [by_petsc(petsc, names, largest, t, guess) for t in TOLERANCES]
        entries[title] = [(1e3 * s / count, steps, arm) for s, steps, arm in found]
        start[title] = "-" if guess is None else start[best]
        print(name, title, entries[title], flush=True)
    rows = []
    for title, each in entries.items():
        row = {
            "problem": name,
            "DoFs": problem.discretisation.dofs,
            "method": title,
            "starts at": start[title],
        }
        for t, (ms, _, _), (base, _, _) in zip(TOLERANCES, each, entries["PETSc"], strict=True):
            row |= {f"ms to {t:g}": ms, f"of PETSc, {t:g}": ms / base}
        row["steps"] = ", ".join(f"{steps:.1f}" for _, steps, _ in each)
        row["arms"] = ", ".join(dict.fromkeys(arm for _, _, arm in each if arm)) or "-"
        rows.append(row)
    return rows


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder for data and networks ({CACHE})")
    parser.add_argument("--prepare", action="store_true", help="make data and networks, measure nothing")
    return parser.parse_args()


def kept():
    """Return the rows that were recorded before."""
    return json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []


def main():
    options = arguments()
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in options.problems:
        problem = made(name)
        parts = data(name, problem, options.cache)
        models = {kind: network(name, kind, parts, options.cache) for kind in PROBLEMS[name][0]}
        if options.prepare:
            continue
        rows = measured(name, problem, parts, models)
        record("time_to_tolerance", __doc__, [r for r in kept() if r["problem"] != name] + rows)


if __name__ == "__main__":
    main()
