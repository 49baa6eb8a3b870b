"""Small instances of every problem file."""

import numpy as np
import torch
import ufl
from dolfinx import fem

import spon
from meshes import box
from spon.fem.mesh import TaggedMesh

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


class Edges(spon.Problem):
    """∫ (1 + |m|²) u·v + (curl u + |u|² k)·curl v = ∫ l² v_x; edge elements, whose faces turn obliquely."""

    linear = False

    def make_space(self):
        return fem.functionspace(self.hierarchy.finest.dolfinx, ("N1curl", 2))

    def make_inputs(self):
        mesh = self.hierarchy.finest
        return {"m": fem.functionspace(mesh.dolfinx, ("N1curl", 2)), "k": spon.Parameters(mesh, ("k", "l"))}

    def make_constraint(self):
        return spon.Constraint.none(self.order.size)

    def sample(self, rng):
        """Draw DoFs of any size: what matters is their derivative."""
        size = self.coefficients.sizes["m"]
        return {"m": 1.0 + 0.1 * rng.standard_normal(size), "k": rng.standard_normal(2)}

    def residual(self, u, m, v):
        k = ufl.as_vector([m["k"][0], 1.0, 0.0])
        form = (1 + ufl.inner(m["m"], m["m"])) * ufl.inner(u, v)
        form += ufl.inner(ufl.curl(u) + ufl.inner(u, u) * k, ufl.curl(v))
        return form * ufl.dx - m["k"][1] ** 2 * v[0] * ufl.dx


def make(case, comm, refinements=0, **more):
    """A problem on its own mesh."""
    if case == "edges":
        return Edges(spon.Hierarchy.uniform(TaggedMesh(box("tetrahedron", 1), comm), 0))
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
    if isinstance(problem, Edges):
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
