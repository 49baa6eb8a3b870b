"""Matrices affine in an input: the fixed map gives what assembly gives, or there is none."""

import numpy as np
import pytest
import scipy.sparse as sp
import ufl
from dolfinx import fem
from mpi4py import MPI

import spon
from meshes import box
from spon.fem.affine import AffineReduction
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh
from spon.fem.reduced import ReducedSystem
from spon.physics.assembled import system as systems_module


class Case:
    """A form a(m; u, v) with prescribed or tied values, and a random m."""

    def __init__(self, cell, degree, components, element, form, constraint="dirichlet", comm=MPI.COMM_SELF):
        mesh = TaggedMesh(box(cell, 3), comm)
        space = spon.lagrange(mesh, degree, components)
        self.order = CanonicalOrder(mesh, space)
        if constraint == "tied":  # rows with several entries
            n, rng = self.order.size, np.random.default_rng(2)
            Z = sp.random_array((n, n // 2), density=4 / n, rng=rng, format="csr")
            self.constraint = spon.Constraint(Z, rng.standard_normal(n))
        else:
            value = 1.5 if components == 1 else (1.5,) + (None,) * (components - 1)
            self.constraint = spon.dirichlet(mesh, space, {"left": value})
        self.m = fem.Function(fem.functionspace(mesh.dolfinx, element))
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        self.form = form(self.m, u, v, mesh)
        self.rhs = assembled_vector((v if components == 1 else v[0]) * ufl.dx)
        self.system = ReducedSystem(self.order, self.constraint)

    def draw(self, seed):
        self.m.x.array[:] = np.random.default_rng(seed).uniform(0.5, 2, len(self.m.x.array))
        matrix = assembled(self.form)
        self.system.load(matrix, self.rhs)
        return matrix

    def make(self):
        return AffineReduction.make(self.system, self.form, self.m, self.draw(0))


def diffusion(m, u, v, mesh):
    return m * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx


def reaction(m, u, v, mesh):
    """Affine, with a part that does not depend on m, unsymmetric, on the boundary too."""
    scalar, test = (u[0], v[0]) if u.ufl_shape else (u, v)
    flow = ufl.dot(ufl.grad(m), ufl.grad(scalar)) * test
    return (ufl.inner(ufl.grad(u), ufl.grad(v)) + (1 + 3 * m) * ufl.inner(u, v) + flow) * ufl.dx + (
        m * ufl.inner(u, v) * ufl.ds
    )


CASES = [
    ("triangle", 1, 1, ("Lagrange", 1), diffusion),
    ("triangle", 2, 2, ("Lagrange", 1), reaction),
    ("triangle", 1, 1, ("DG", 0), diffusion),
    ("quadrilateral", 1, 2, ("Lagrange", 2), reaction),
    ("tetrahedron", 2, 1, ("DG", 1), reaction),
    ("hexahedron", 1, 3, ("DG", 0), diffusion),
]


@pytest.mark.parametrize("constraint", ["dirichlet", "tied"])
@pytest.mark.parametrize(("cell", "degree", "components", "element", "form"), CASES)
def test_the_map_gives_the_assembled_system(cell, degree, components, element, form, constraint):
    case = Case(cell, degree, components, element, form, constraint)
    affine = case.make()
    assert affine is not None
    for seed in (1, 2):
        matrix = case.draw(seed)
        version, expected = case.system.version, case.system.matrix.getValuesCSR()
        load = case.system.rhs.array_r.copy()
        case.system.rhs.set(0.0)
        case.system.matrix.zeroEntries()
        affine.load(case.rhs)
        found = case.system.matrix.getValuesCSR()
        for one, other in zip(found[:2], expected[:2], strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(found[2], expected[2], atol=1e-13 * np.abs(expected[2]).max())
        np.testing.assert_allclose(case.system.rhs.array_r, load, atol=1e-12 * np.abs(load).max())
        assert case.system.version == version + 1
        case.m.x.array[:] = 1.0
        affine.load(case.rhs)
        case.system.load(matrix, case.rhs)  # what it held before is not there any more
        np.testing.assert_array_equal(case.system.matrix.getValuesCSR()[2], expected[2])


def test_forms_that_are_not_affine_have_no_map():
    for form in (
        lambda m, u, v, mesh: m**2 * u * v * ufl.dx,
        lambda m, u, v, mesh: ufl.exp(m) * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx,
        lambda m, u, v, mesh: m * u * v * ufl.dx + ufl.avg(m) * ufl.inner(ufl.jump(u), ufl.jump(v)) * ufl.dS,
    ):
        assert Case("triangle", 1, 1, ("Lagrange", 1), form).make() is None
    edges = Case("triangle", 1, 1, ("N1curl", 1), lambda m, u, v, mesh: m[0] * u * v * ufl.dx)
    assert edges.make() is None
    assert Case("triangle", 3, 1, ("Lagrange", 1), diffusion).make() is None


def test_large_maps_are_not_made(monkeypatch):
    monkeypatch.setattr("spon.fem.affine._ENTRIES", 100)
    assert Case("triangle", 1, 1, ("Lagrange", 1), diffusion).make() is None


@pytest.mark.mpi
def test_meshes_of_several_ranks_have_no_map():
    case = Case("triangle", 1, 1, ("Lagrange", 1), diffusion, comm=MPI.COMM_WORLD)
    assert (case.make() is None) == (MPI.COMM_WORLD.size > 1)


@pytest.mark.parametrize("name", ["Darcy", "Elasticity", "Helmholtz"])
def test_problems_have_the_same_solutions_with_and_without_the_map(name, monkeypatch):
    path = spon.find_problem(f"{name.lower()}.py")
    kind = getattr(spon.load_problem(path), name)
    draws, found = [], []
    for after in (1, 10**9):
        monkeypatch.setattr(systems_module, "_AFTER", after)
        problem = kind.from_mesh(None, MPI.COMM_SELF, refinements=0)
        draws = draws or [problem.vector(problem.sample(np.random.default_rng(i))) for i in range(3)]
        found.append(np.array([problem.solve(m) for m in draws]))
        assert (problem.system._affine is not None) == (after == 1)
    np.testing.assert_allclose(found[0], found[1], atol=1e-10 * np.abs(found[1]).max())
