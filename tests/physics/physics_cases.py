"""Small instances of every problem file."""

import numpy as np
import torch
import ufl
from conftest import on_square
from dolfinx import fem

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


class Mixed(spon.Problem):
    """∫ m u·v + (div u + |u|²)(div v) = ∫ k v_x, H(div) elements, whose edges have an orientation."""

    linear = False

    def make_space(self):
        return fem.functionspace(self.hierarchy.finest.dolfinx, ("RT", 2))

    def make_inputs(self):
        mesh = self.hierarchy.finest
        return {"m": fem.functionspace(mesh.dolfinx, ("N1curl", 1)), "k": spon.Parameters(mesh, ("k", "l"))}

    def make_constraint(self):
        return spon.Constraint.none(self.order.size)

    def sample(self, rng):
        """Draw DoFs of any size: what matters is their derivative."""
        size = self.coefficients.sizes["m"]
        return {"m": 1.0 + 0.1 * rng.standard_normal(size), "k": rng.standard_normal(2)}

    def residual(self, u, m, v):
        form = (1 + ufl.inner(m["m"], m["m"])) * ufl.inner(u, v) + (ufl.div(u) + ufl.inner(u, u)) * ufl.div(v)
        return form * ufl.dx - (m["k"][0] * v[0] + m["k"][1] ** 2 * v[1]) * ufl.dx


def make(case, comm, refinements=0, **more):
    """A problem on its own mesh."""
    if case == "mixed":
        return Mixed(on_square(3, 1, comm))
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
    if isinstance(problem, Mixed):
        return torch.as_tensor(rng.standard_normal((samples, problem.order.size))), m, rng
    nodes = problem.discretisation.levels[0].points
    x = (nodes - nodes.min(axis=0)) / np.ptp(nodes, axis=0).max()
    size = 0.05 * np.ptp(nodes, axis=0).max()
    components = problem.discretisation.dofs // len(nodes)
    waves = [size * np.sin(x @ rng.uniform(0, 3, x.shape[1]) + rng.uniform(0, 6)) for _ in range(components)]
    u = np.stack(waves, axis=1).ravel()
    shift = problem.constraint.shift
    free = problem.constraint.free(np.stack([(1 + k) * u for k in range(samples)]) + shift)
    return torch.as_tensor(free), m, rng
