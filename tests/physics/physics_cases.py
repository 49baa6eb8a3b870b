"""Small instances of every problem file."""

import numpy as np
import torch

import spon

CASES = {
    "darcy": ("Darcy", {}),
    "darcy lognormal": ("Darcy", {"kind": "lognormal"}),
    "notch": ("Notch", {}),
    "elasticity": ("Elasticity", {}),
    "elasticity P2": ("Elasticity", {"degree": 2}),
    "bracket": ("Bracket", {"degree": 1}),
    "hyperelasticity": ("Hyperelasticity", {"degree": 1}),
    "helmholtz": ("Helmholtz", {"degree": 1}),
    "helmholtz incidence": ("Helmholtz", {"random": "incidence", "degree": 1}),
    "plate": ("Plate", {}),
}


def make(case, comm, refinements=0, **more):
    """A problem on its own mesh."""
    name, options = CASES[case]
    cls = getattr(spon.load_problem(spon.find_problem(f"{case.split()[0]}.py")), name)
    return cls.from_mesh(group=comm, refinements=refinements, **options, **more)


def inputs(problem, samples):
    """Samples of all inputs, (samples, DoFs of all inputs)."""
    drawn = [problem.vector(problem.sample(np.random.default_rng(k))) for k in range(samples)]
    return torch.as_tensor(np.array(drawn))


def point(problem, samples):
    """Smooth û of small size, inputs, and a generator."""
    rng = np.random.default_rng(3)
    m = inputs(problem, samples)
    nodes = problem.discretisation.levels[0].points
    x = (nodes - nodes.min(axis=0)) / np.ptp(nodes, axis=0).max()
    size = 0.05 * np.ptp(nodes, axis=0).max()
    components = problem.discretisation.dofs // len(nodes)
    waves = [size * np.sin(x @ rng.uniform(0, 3, x.shape[1]) + rng.uniform(0, 6)) for _ in range(components)]
    u = np.stack(waves, axis=1).ravel()
    shift = problem.constraint.shift
    free = problem.constraint.free(np.stack([(1 + k) * u for k in range(samples)]) + shift)
    return torch.as_tensor(free), m, rng
