"""Residual certificates and corrections.

Run with `./dev run python3 benchmarks/physics.py SECTION…`; the sections write results/SECTION.json and
RESULTS.md. Without a name: all.
"""

import statistics
import sys

import numpy as np
import torch
from mpi4py import MPI
from results import record

import spon

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


SECTIONS = {"effectivity": effectivity}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for section in sys.argv[1:] or SECTIONS:
        SECTIONS[section]()
