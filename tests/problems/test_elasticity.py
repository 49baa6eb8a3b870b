import numpy as np
import pytest
from conftest import on_square, square
from mpi4py import MPI
from stresses import von_mises

import spon
from meshes import mapped
from spon.fem.mesh import TaggedMesh

Elasticity = spon.load_problem(spon.find_problem("elasticity.py")).Elasticity


def constant(problem, value=1.0):
    return np.full(problem.coefficients.sizes["E"], value)


@pytest.mark.parametrize("degree", [1, 2])
def test_uniaxial_tension_is_exact(degree):
    problem = Elasticity(on_square(3, 0), traction={"right": (6.0, 0.0)}, poisson=0.3, degree=degree)
    x = problem.order.canonical.nodes
    u = problem.solve(constant(problem, 2.0)).reshape(-1, 2)
    np.testing.assert_allclose(u, x * [3.0, -0.9], atol=1e-12)
    np.testing.assert_allclose(von_mises(problem, u.ravel(), constant(problem, 2.0)), 6.0, rtol=1e-12)


def kirsch(x, tension, E, nu):
    """Displacement around a hole of radius 1 in an infinite sheet under tension along x, plane stress.

    Kirsch's solution in the form of Sukumar, Chopp, Moes & Belytschko 2001, CMAME 190, section 5.1.
    """
    r, t = np.hypot(x[0], x[1]), np.arctan2(x[1], x[0])
    mu, k = E / (2 * (1 + nu)), (3 - nu) / (1 + nu)
    one = r * (k + 1) * np.cos(t) + 2 / r * ((1 + k) * np.cos(t) + np.cos(3 * t)) - 2 / r**3 * np.cos(3 * t)
    two = r * (k - 3) * np.sin(t) + 2 / r * ((1 - k) * np.sin(t) + np.sin(3 * t)) - 2 / r**3 * np.sin(3 * t)
    return tension / (8 * mu) * np.stack([one, two])


def quarter_of_a_sheet(n, degree, comm):
    """Radius 1 to 3: the hole is "left", far away is "right"."""

    def bent(x):
        r, t = 1 + 2 * x[0], np.pi / 2 * x[1]
        return r * np.cos(t), r * np.sin(t)

    mesh = TaggedMesh(mapped(square(n), bent), comm)
    supports = {
        "right": lambda x: kirsch(x, 1.0, 1.0, 0.3),
        "bottom": (None, 0.0),
        "top": (0.0, None),
    }
    return Elasticity(spon.Hierarchy.uniform(mesh, 0), supports, {}, poisson=0.3, degree=degree)


@pytest.mark.mpi
def test_a_hole_in_a_sheet_under_tension_converges_to_kirsch_at_its_rate():
    def error(n):
        problem = quarter_of_a_sheet(n, 1, MPI.COMM_WORLD)
        exact = kirsch(problem.order.canonical.nodes.T, 1.0, 1.0, 0.3).T.ravel()
        difference = problem.solve(constant(problem)) - exact
        gram = problem.discretisation.output.mass
        return np.sqrt(difference @ gram @ difference / (exact @ gram @ exact))

    coarse, fine = error(6), error(24)
    assert np.log2(coarse / fine) / 2 > 1.8
    assert fine < 2e-3


def test_the_stress_at_the_hole_is_three_times_the_tension():
    problem = quarter_of_a_sheet(32, 2, MPI.COMM_SELF)
    m = constant(problem)
    assert abs(von_mises(problem, problem.solve(m), m).max() - 3.0) < 0.05


def test_a_cantilever_bends_as_timoshenko_says():
    """Length 10, height 1: P L³/(3EI) + 6 P L/(5 G A); the clamp and Poisson's effect are left out there."""
    mesh = TaggedMesh(mapped(square(12), lambda x: (10 * x[0], x[1])), MPI.COMM_SELF)
    problem = Elasticity(
        spon.Hierarchy.uniform(mesh, 0), {"left": 0.0}, {"right": (0.0, 1.0)}, poisson=0.3, degree=2
    )
    x = problem.order.canonical.nodes
    tip = problem.solve(constant(problem)).reshape(-1, 2)[x[:, 0] == 10.0, 1].mean()
    expected = 10**3 / (3 / 12) + 1.2 * 10 * 2 * 1.3
    assert abs(tip / expected - 1) < 5e-3


def test_a_stiffer_sheet_moves_less_and_only_prescribed_components_are_held():
    problem = Elasticity(on_square(3, 1))
    m = problem.sample(np.random.default_rng(0))
    u = problem.solve(m)
    np.testing.assert_allclose(problem.solve(2 * m), u / 2, rtol=1e-10)
    left = u[problem.discretisation.boundary_dofs["left"]].reshape(-1, 2)
    assert (left[:, 0] == 0).all()
    assert np.abs(left[1:, 1]).min() > 0


def test_the_median_modulus_is_the_given_one():
    problem = Elasticity(on_square(4, 1), modulus=5.0, sigma=0.3)
    drawn = np.array([problem.sample(np.random.default_rng(k)) for k in range(300)])
    assert abs(np.log(drawn / 5.0).mean()) < 0.05


def test_what_makes_no_sense_is_refused():
    hierarchy = on_square(2, 0)
    with pytest.raises(spon.SponError, match=r"the traction on boundary 'top' is .*; allowed: two finite"):
        Elasticity(hierarchy, traction={"top": (1.0, np.nan)})
    with pytest.raises(spon.SponError, match=r"poisson = 0\.6; allowed: -1 < poisson <= 0\.5"):
        Elasticity(hierarchy, poisson=0.6)
