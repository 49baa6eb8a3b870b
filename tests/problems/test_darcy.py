import numpy as np
import pytest
from conftest import on_square
from mpi4py import MPI

import spon
from spon.data.fields import generator

Darcy = spon.load_problem(spon.find_problem("darcy.py")).Darcy


def at_the_centre(problem):
    u = problem.solve(np.ones(problem.coefficients.sizes["kappa"]))
    points = problem.nodal_level.points
    return u[np.abs(points - 0.5).max(axis=1) < 1e-12].item()


@pytest.mark.mpi
def test_constant_permeability_has_the_value_of_the_series_at_its_rate():
    """The torsion function of the unit square at its centre, 0.0736713…."""
    k = np.arange(1, 400, 2)
    a, b = np.meshgrid(k, k)
    sign = (-1.0) ** ((a - 1) // 2 + (b - 1) // 2)
    exact = (16 / np.pi**4 * sign / (a * b * (a**2 + b**2))).sum()
    assert abs(exact - 0.0736713) < 1e-7
    coarse, fine = (
        abs(at_the_centre(Darcy(on_square(4, n, MPI.COMM_WORLD), kind="lognormal")) - exact) for n in (1, 3)
    )
    assert np.log2(coarse / fine) / 2 > 1.9
    assert fine < 1e-4


@pytest.mark.parametrize("phases", [(12.0, 3.0), (1.0, 1000.0)])
def test_layers_are_solved_exactly_at_the_nodes(phases):
    """−(κ u')' = 1, u(0) = u(1) = 0, κ constant on each half: nodal values are exact in one dimension."""
    problem = Darcy(on_square(4, 1), contrast=phases, boundaries=("left", "right"))
    arrays = problem.hierarchy.finest.arrays
    a, b = phases
    u = problem.solve(np.where(arrays.centroids[:, 0] < 0.5, a, b))
    q = (1 / (8 * a) + 3 / (8 * b)) / (1 / (2 * a) + 1 / (2 * b))  # κ u' = q − x
    x = arrays.points[:, 0]
    left = (q * x - x**2 / 2) / a
    right = (1 - x) * ((1 + x) / 2 - q) / b
    np.testing.assert_allclose(u, np.where(x < 0.5, left, right), atol=1e-12)


def test_scaling_the_permeability_scales_the_pressure():
    problem = Darcy(on_square(4, 1))
    m = problem.sample(np.random.default_rng(0))
    np.testing.assert_allclose(problem.solve(5 * m), problem.solve(m) / 5, rtol=1e-10)


def test_the_medium_has_two_phases_that_share_the_domain_evenly():
    problem = Darcy(on_square(4, 2), contrast=(7.0, 2.0))
    drawn = np.array([problem.sample(generator(0, k)) for k in range(300)])
    assert set(np.unique(drawn)) == {7.0, 2.0}
    share = (drawn == 7.0).mean(axis=0)
    assert np.abs(share - 0.5).max() < 4 * np.sqrt(0.25 / 300)


def test_a_sample_is_the_same_medium_on_a_finer_mesh():
    """The child in the middle of a cell has its centre."""
    coarse = Darcy(on_square(4, 0))
    fine = coarse.refined()
    centres = fine.hierarchy.finest.arrays.centroids[3::4]
    np.testing.assert_allclose(centres, coarse.hierarchy.finest.arrays.centroids, atol=1e-14)
    for number in range(5):
        m = [problem.sample(generator(0, number)) for problem in (coarse, fine)]
        np.testing.assert_array_equal(m[1][3::4], m[0])
        assert len(np.unique(m[0])) == 2


def test_the_mean_of_the_logarithm_is_zero():
    problem = Darcy(on_square(4, 2), kind="lognormal", sigma=0.5)
    logs = np.log([problem.sample(generator(0, k)) for k in range(400)])
    inside = np.abs(problem.nodal_level.points - 0.5).max(axis=1) < 0.3
    assert abs(logs[:, inside].mean()) < 0.06
    assert 0.4 < logs[:, inside].std() < 0.6


def test_what_makes_no_sense_is_refused():
    hierarchy = on_square(2, 0)
    with pytest.raises(spon.SponError, match="kind = 'three-phase'; allowed: 'two-phase', 'lognormal'"):
        Darcy(hierarchy, kind="three-phase")
    with pytest.raises(spon.SponError, match=r"contrast = .*; allowed: two positive numbers"):
        Darcy(hierarchy, contrast=(12.0, 0.0))
