"""Residual certificates and corrections.

Run with `./dev run python3 benchmarks/physics.py SECTION…` (effectivity, refinement, tolerance); these
write results/SECTION.json and RESULTS.md. Without a name: all.
"""

import contextlib
import statistics
import sys
import time

import numpy as np
import torch
from fitting import fit
from mpi4py import MPI
from operators import OURS, make_problem
from results import record

import spon
from spon.evaluation import relative_errors
from spon.physics.kernels.cg import conjugate_gradients

SAMPLES = 4
EFFECTIVITY = """The residual in the dual norm over the true energy error of a prediction, η / ‖e‖.

`benchmarks/physics.py effectivity`. Predictions: "smooth", a tenth of the way to 0.9 times the solution
of another sample; "noise", white noise in all DoFs, 1 % of the deviation of u. B is one cycle of the
sample's own operator, V(3,3) of the mesh levels ("multigrid") or BoomerAMG, for vectors GAMG ("amg");
least and largest of 4 samples. Contrast is the largest over the least coefficient, the median of the
samples. GAMG gave a negative r·Br for one of the hyperelastic samples, and is left out there."""


def made(name, refinements, **options):
    """A problem on its own mesh, with no tuning of solvers: a factorisation."""
    cls = {"darcy": "Darcy", "elasticity": "Elasticity", "hyperelasticity": "Hyperelasticity"}[name]
    problem = getattr(spon.load_problem(spon.find_problem(f"{name}.py")), cls).from_mesh(
        group=MPI.COMM_SELF, refinements=refinements, **options
    )
    if problem.solver_options == "tuned":
        problem.solver_options = None
    return problem


def solved(problem, samples=SAMPLES):
    """Inputs and solutions."""
    m = np.array([problem.vector(problem.sample(np.random.default_rng(k))) for k in range(samples)])
    return torch.as_tensor(m), torch.as_tensor(np.array([problem.solution(one).values for one in m]))


def predictions(problem, u):
    """Wrong fields with the right boundary values."""
    rng = np.random.default_rng(0)
    Z = problem.constraint.Z
    noise = (Z @ rng.standard_normal((Z.shape[1], len(u)))).T * float(u.std()) * 0.01
    return {"smooth": u + 0.1 * (0.9 * u.roll(1, 0) - u), "noise": u + torch.as_tensor(noise)}


def effectivity():
    """Measure η / ‖e‖ for sizes and contrasts."""
    cases = []
    for refinements in (1, 2, 4):
        for contrast in (1.0, 30.0, 1000.0):
            two = {"contrast": (contrast, 1.0)}
            cases.append(("Darcy, two-phase", "darcy", refinements, two))
        cases.append(("Darcy, log-normal", "darcy", refinements, {"kind": "lognormal", "sigma": 1.2}))
    cases.append(("elasticity", "elasticity", 2, {}))
    cases.append(("elasticity, second order", "elasticity", 2, {"degree": 2}))
    cases.append(("hyperelasticity", "hyperelasticity", 1, {}))
    rows = []
    for title, name, refinements, options in cases:
        problem = made(name, refinements, **options)
        m, u = solved(problem)
        residual = spon.Residual(problem)
        contrast = statistics.median((one.max() / one.min()).item() for one in m)
        for method in ("multigrid", "amg")[: 1 if name == "hyperelasticity" else 2]:
            with spon.Preconditioner(problem, method) as inverse:
                norm = spon.DualNorm(residual, inverse)
                row = {"problem": title, "DoFs": u.shape[1]}
                row |= {"contrast": contrast if name != "hyperelasticity" else "", "B": method}
                for kind, wrong in predictions(problem, u).items():
                    ratio = norm(wrong, m) / norm.energy(wrong - u, u, m)
                    row |= {f"{kind}, least": float(ratio.min()), f"{kind}, largest": float(ratio.max())}
                rows.append(row)
                print(rows[-1], flush=True)
    record("effectivity", EFFECTIVITY, rows)


REFINEMENT = """Errors before and after refinement of predictions by their own equations, and its price.

`benchmarks/physics.py refinement`. The prediction is that of a `Multigrid` network that was not told the
equations (guess "none"), trained in H1 on 300 samples for the processor seconds in the table; the beam is of
first-order elements. Mean relative errors over 60 test samples, against finite-element solutions; energy: of
the sample's own operator, at the solution where it is nonlinear. Galerkin, k: `GalerkinRefinement` with k
directions; last layer: `LastLayerRefinement`; cycle: u + B r; PCG: steps of conjugate gradients with B from
the prediction, for the beam of a Newton correction without line search; "from zero": no network. ms:
processor milliseconds per sample of the step alone, setup of B included, batches of all test samples, median
of three, one thread; the row "network": of the prediction."""
TRAINED = 60.0


def refinement():
    """Measure errors and cost of refinements."""
    rows = []
    for title, problem, transform in (
        ("Darcy, two-phase", make_problem("darcy"), "identity"),
        ("plate, log-normal", make_problem("plate"), "log"),
        ("beam, hyperelastic", made("hyperelasticity", 1, degree=1), "identity"),
    ):
        data = spon.generate(problem, 400, seed=0)
        parts, test = (data[:300], data[300:340]), data[340:]
        torch.manual_seed(0)
        coefficient = data.physics.coefficient is not None
        processor = spon.Multigrid(data.discretisation, coefficient=coefficient)
        model = spon.OperatorNetwork(data.discretisation, processor, transform)
        seconds = fit(model, (*parts, test), OURS, 6e-3, 0, TRAINED, points=(0.5, 1.0))["trained"]
        for name, u, ms in refined(model, test):
            l2, energy = errors(u, test)
            row = {"problem": title, "trained, s": seconds, "field": name}
            rows.append(row | {"L2, %": 100 * l2, "energy, %": 100 * energy, "ms": ms})
            print(rows[-1], flush=True)
    record("refinement", REFINEMENT, rows)


def refined(model, test):
    """Return (name, field, milliseconds per sample) of the network and of each refinement."""
    solver = spon.MultigridSolver(model.discretisation, test.physics)
    m = torch.as_tensor(test.inputs)
    u, ms = timed(lambda: torch.as_tensor(model.predict(test.inputs)), len(m))
    zero = solver.shift.expand(len(m), -1)
    yield "network", u, ms
    steps = {
        "cycle": lambda: krylov(solver, u, m, 0),
        "Galerkin, 1": lambda: spon.GalerkinRefinement(solver)(u, m),
        "Galerkin, 2": lambda: spon.GalerkinRefinement(solver, directions=2)(u, m),
        "last layer": lambda: spon.LastLayerRefinement(model, solver)(u, m),
        "PCG, 2": lambda: krylov(solver, u, m, 2),
        "PCG, 2, from zero": lambda: krylov(solver, zero, m, 2),
        "PCG, 3, from zero": lambda: krylov(solver, zero, m, 3),
    }
    for name, step in steps.items():
        yield name, *timed(step, len(m))


def krylov(solver, u, m, steps):
    """Return u + δ, δ after some steps of preconditioned CG for J δ = −F(u); 0: one cycle."""
    state = None if solver.kernel.linear else u
    cycle = solver.prepare(m, state)
    r = solver.reduced(-solver.kernel.residual(u, m))
    if steps == 0:
        return u + solver.Z(cycle(r)).T
    delta, _ = conjugate_gradients(
        solver.action(state, m), cycle, r, 1e-30, None, steps, truncate=True, miniter=steps
    )
    return u + solver.Z(delta).T


def timed(call, samples):
    """Return the result, and the median processor milliseconds per sample of three calls after a first."""
    durations = []
    for _ in range(4):
        start = time.process_time()
        with torch.no_grad():
            found = call()
        durations.append(time.process_time() - start)
    return found, 1e3 * statistics.median(durations[1:]) / samples


def errors(u, test):
    """Return the mean relative errors in L2 and in the energy norm of the samples' own operators."""
    norm = spon.KernelCertificate(test.discretisation, test.physics).norm
    reference, m = torch.as_tensor(test.outputs), torch.as_tensor(test.inputs)
    energy = norm.energy(u - reference, reference, m) / norm.energy(reference, reference, m)
    return float(relative_errors(test, u.numpy(), "l2").mean()), float(energy.mean())


TOLERANCE = """The share of predictions that truly met their tolerance after `KernelCertificate.correct`.

`benchmarks/physics.py tolerance`. "plain": predictions by `LowRank` as its closed-form fit on 100 samples
leaves it, for 40 test samples, without calibration, so that all are corrected. "refined": the same after
`GalerkinRefinement` with two directions, calibrated on 40 refined validation samples; those whose upper
estimate is below the tolerance are kept as they are, and nine in ten of the estimates hold, by the meaning
of the calibration (none where a tangent at a refined validation sample is not definite: all are corrected
then). Error: mean relative energy error before. True errors are in the energy norm, against
sparse direct solves of the assembled samples by PETSc; for hyperelasticity against its Newton solutions,
taken on to 1e-13 by `MultigridSolver`. Worst: the largest true error over the tolerance. Iterations of
conjugate gradients: mean over the corrected samples, and those to the same tolerance from zero."""
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


def tolerance():
    """Measure how often tolerances are met."""
    rows = []
    for title, problem, transform in (
        ("Darcy, two-phase", made("darcy", 2), "identity"),
        ("plate, log-normal", make_problem("plate"), "log"),
        ("elasticity", made("elasticity", 2), "log"),
        ("hyperelasticity", made("hyperelasticity", 1, degree=1), "identity"),
    ):
        if problem.linear:
            problem.solver_options = None
        rows += tolerances(title, spon.generate(problem, 180, seed=0), transform)
    record("tolerance", TOLERANCE, rows)


def tolerances(title, data, transform):
    """Return the rows of a problem."""
    model = spon.OperatorNetwork(data.discretisation, spon.LowRank(data.discretisation), transform)
    model.fit_normalisation(data[:100].inputs, data[:100].outputs, None)
    rows = []
    for kind in ("plain", "refined"):
        certificate = spon.KernelCertificate(data.discretisation, data.physics)
        sets = []
        for part in (data[100:140], data[140:]):
            m, reference = torch.as_tensor(part.inputs), torch.as_tensor(part.outputs)
            if not certificate.solver.kernel.linear:
                reference, _ = certificate.solver.solve(None, m, 1e-13, guess=reference, strict=False)
            u = torch.as_tensor(model.predict(part.inputs))
            if kind == "refined":
                u = spon.GalerkinRefinement(certificate.solver, directions=2)(u, m)
            sets.append((u, m, reference))
        if kind == "refined":
            with contextlib.suppress(spon.SponError):  # a tangent that is not definite: all are corrected
                certificate.calibrate(*sets[0])
        u, m, reference = sets[1]
        size = certificate.norm.energy(reference, reference, m)
        before = certificate.norm.energy(u - reference, reference, m) / size
        for wanted in TOLERANCES:
            found = certificate.correct(u, m, None, wanted, compare=True)
            error = certificate.norm.energy(found.values - reference, reference, m) / size
            which = found.corrected
            counts = [
                float(n[which].double().mean()) if bool(which.any()) else "-"
                for n in (found.iterations, found.from_zero)
            ]
            row = {"problem": title, "prediction": kind, "error": float(before.mean()), "tolerance": wanted}
            row |= {"met, %": 100 * float((error <= wanted).double().mean())}
            row |= {"worst": float(error.max()) / wanted, "corrected": f"{int(which.sum())} of {len(which)}"}
            row |= dict(zip(("iterations", "from zero"), counts, strict=True))
            rows.append(row)
            print(rows[-1], flush=True)
    return rows


SECTIONS = {"effectivity": effectivity, "refinement": refinement, "tolerance": tolerance}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for section in sys.argv[1:] or SECTIONS:
        SECTIONS[section]()
