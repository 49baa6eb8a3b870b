from dataclasses import replace

import numpy as np
import pytest
import ufl
from dolfinx import fem
from mpi4py import MPI
from scipy.optimize import fsolve
from stresses import von_mises

import spon
from meshes import box, mapped
from spon.fem.mesh import TaggedMesh

Hyperelasticity = spon.load_problem(spon.find_problem("hyperelasticity.py")).Hyperelasticity
Bracket = spon.load_problem(spon.find_problem("bracket.py")).Bracket
SYMMETRY = {"left": (0.0, None, None), "bottom": (None, 0.0, None), "front": (None, None, 0.0)}


def block(kind, names, cell_type="hexahedron", comm=MPI.COMM_SELF, length=1.0, **options):
    arrays = box(cell_type, 2)
    arrays = mapped(arrays, lambda x: (length * x[0], x[1], x[2]))
    renamed = {names.get(k, k): tag for k, tag in arrays.facet_names.items()}
    mesh = TaggedMesh(replace(arrays, facet_names=renamed), comm)
    return kind(spon.Hierarchy.uniform(mesh, 0), **options)


@pytest.mark.mpi
@pytest.mark.parametrize(("cell_type", "degree"), [("hexahedron", 2), ("tetrahedron", 1)])
@pytest.mark.parametrize("traction", [1.5, -0.4])
def test_uniaxial_loading_gives_the_homogeneous_deformation(cell_type, degree, traction):
    """P₁₁ = t, P₂₂ = P₃₃ = 0 for F = diag(a, b, b)."""
    problem = block(
        Hyperelasticity, {"right": "end"}, cell_type, MPI.COMM_WORLD, young=2.0, poisson=0.3, degree=degree
    )
    problem.boundary_values = SYMMETRY
    mu, lame = 2.0 / 2.6, 0.6 / (1.3 * 0.4)

    def stresses(stretch):
        a, b = stretch
        log = lame * np.log(a * b * b)
        return mu * (a - 1 / a) + log / a - traction, mu * (b - 1 / b) + log / b

    a, b = fsolve(stresses, (1.0, 1.0), xtol=1e-13)
    assert abs(a - 1) > 0.1
    found = problem.solution(np.array([traction, 0.0, 0.0]))
    expected = problem.order.canonical.nodes * (np.array([a, b, b]) - 1)
    np.testing.assert_allclose(found.values.reshape(-1, 3), expected, atol=1e-9)
    assert found.statistics["load_steps"] == problem.load_steps
    assert found.statistics["iterations"] > 2


def test_the_derived_stress_is_that_of_simple_shear_whatever_the_rotation(rng):
    """Cauchy's stress is (μ (b − I) + λ ln J I) / J with b = F Fᵀ."""
    problem = block(Hyperelasticity, {"left": "fixed", "right": "end"}, young=2.0, poisson=0.3, degree=1)
    F = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    F = F * np.sign(np.linalg.det(F)) @ (np.eye(3) + np.outer([0.8, 0, 0], [0, 1, 0.5]))
    u = (problem.order.canonical.nodes @ (F - np.eye(3)).T).ravel()
    stress = 2.0 / 2.6 * (F @ F.T - np.eye(3))
    deviator = stress - np.trace(stress) / 3 * np.eye(3)
    expected = np.sqrt(1.5 * (deviator**2).sum())
    np.testing.assert_allclose(von_mises(problem, u, np.zeros(3)), expected, rtol=1e-12)


def test_small_loads_are_those_of_linear_elasticity_to_first_order():
    """u(s t) = s u₁ + s² u₂ + …, u₁ that of the linear problem."""
    options = {"poisson": 0.3, "degree": 2, "length": 2.0}
    problem = block(Hyperelasticity, {"left": "fixed", "right": "end"}, young=1.0, **options)
    linear = block(Bracket, {"left": "bolt", "right": "end"}, modulus=1.0, **options)
    t = np.array([0.3, 0.2, -0.4])
    u = linear.solve(np.tile(t, linear.coefficients.sizes["t"] // 3))
    errors = [np.abs(problem.solve(s * t) / s - u).max() for s in (4e-3, 1e-3)]
    assert 3.6 < errors[0] / errors[1] < 4.4
    assert errors[1] < 0.02 * np.abs(u).max()


def test_the_solution_does_not_depend_on_the_load_steps():
    problem = Hyperelasticity.from_mesh(group=MPI.COMM_SELF, refinements=0)
    t = np.array([2e3, 4e3, 2e3])
    u = problem.solution(t)
    other = Hyperelasticity.from_mesh(group=MPI.COMM_SELF, refinements=0)
    other.load_steps = 5
    v = other.solution(t)
    assert (u.statistics["load_steps"], v.statistics["load_steps"]) == (2, 5)
    np.testing.assert_allclose(v.values, u.values, atol=1e-9 * np.abs(u.values).max())
    linear = np.abs(problem.solve(1e-3 * t)).max() * 1e3
    assert np.abs(u.values).max() < 0.95 * linear  # tension stiffens it against bending


def test_the_load_multiplies_the_traction():
    problem = Hyperelasticity.from_mesh(group=MPI.COMM_SELF, refinements=0)
    u, v = fem.Function(problem.space), ufl.TestFunction(problem.space)
    form = fem.form(problem.residual(u, problem.coefficients.ufl, v))
    problem.coefficients.set(np.array([1.0, 2.0, 3.0]))
    whole = fem.assemble_vector(form).array.copy()
    problem.load.value = 0.25
    np.testing.assert_allclose(fem.assemble_vector(form).array, whole / 4, atol=1e-15)
    assert np.abs(whole).max() > 0.1


def test_tractions_stay_within_their_bounds():
    problem = Hyperelasticity.from_mesh(group=MPI.COMM_SELF, refinements=0, amplitude=7.0)
    drawn = np.array([problem.sample(np.random.default_rng(k)) for k in range(500)])
    assert np.abs(drawn).max() <= 7.0
    np.testing.assert_allclose(drawn.var(axis=0), 7.0**2 / 3, rtol=0.15)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(spon.SponError, match=r"poisson = 0\.5, .*allowed: young > 0, -1 < poisson < 0\.5"):
        Hyperelasticity.from_mesh(poisson=0.5)
