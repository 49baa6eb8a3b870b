from dataclasses import replace

import numpy as np
import pytest
from conftest import square
from mpi4py import MPI

import spon
from spon.data.fields import generator
from spon.fem.mesh import TaggedMesh

Notch = spon.load_problem(spon.find_problem("notch.py")).Notch


def on_half_plane(n, comm=MPI.COMM_SELF):
    """The unit square whose bottom is the notch."""
    arrays = square(n)
    tags = np.where(arrays.facet_tags == arrays.facet_names["bottom"], 2, 1).astype(np.int32)
    arrays = replace(arrays, facet_tags=tags, facet_names={"outer": 1, "notch": 2})
    return Notch(spon.Hierarchy.uniform(TaggedMesh(arrays, comm), 0))


@pytest.fixture(scope="module")
def notch():
    return Notch.from_mesh(group=MPI.COMM_SELF, refinements=0)


@pytest.mark.mpi
def test_boundary_data_of_a_known_solution_give_it_at_its_rate():
    """With u = e^x sin y − 5 y², which is zero on y = 0, −Δu = 10."""

    def error(n):
        problem = on_half_plane(n, MPI.COMM_WORLD)

        def exact(x):
            return np.exp(x[0]) * np.sin(x[1]) - 5 * x[1] ** 2

        u = problem.solve(problem.encoders["g"](exact))
        return np.abs(u - exact(problem.nodal_level.points.T)).max()

    coarse, fine = error(6), error(24)
    assert np.log2(coarse / fine) / 2 > 1.9
    assert fine < 1e-4


def test_the_operator_is_affine(notch):
    one, two = (notch.sample(np.random.default_rng(k)) for k in (0, 1))
    zero = notch.solve(0 * one)
    mixed = notch.solve(2 * one - 3 * two)
    np.testing.assert_allclose(
        mixed - zero, 2 * (notch.solve(one) - zero) - 3 * (notch.solve(two) - zero), atol=1e-12
    )
    assert zero.max() > 0.1
    lifted = notch.shift(one)
    np.testing.assert_allclose(notch.solve(one) - lifted, zero, atol=1e-12)
    assert np.abs(lifted).max() > 0.1


@pytest.mark.parametrize("horizontal", [False, True])
def test_boundary_data_have_the_conditional_covariance(horizontal):
    """Cov(g) = C − C_xm C_mm⁻¹ C_mx with the two points m of the mouth."""
    problem = Notch.from_mesh(group=MPI.COMM_SELF, refinements=0, horizontal=horizontal)
    trace = problem.encoders["g"]
    x = trace.canonical.nodes[trace.dofs]
    there = np.flatnonzero((x[:, 1] == 0) & (np.abs(x[:, 0] - 0.5) < 0.0101))
    assert len(there) == 2
    x = x[:, :1] if horizontal else x
    C = np.exp(-((x[:, None] - x) ** 2).sum(axis=2) / (2 * 0.2**2))
    expected = C - C[:, there] @ np.linalg.solve(C[np.ix_(there, there)], C[there])
    n = 2000
    g = np.array([problem.sample(generator(0, k)) for k in range(n)])
    assert (g[:, there] == 0).all()
    error = np.abs(g.T @ g / n - expected)
    assert error.max() < 5 * np.sqrt(2 / n)
    assert np.abs(g.mean(axis=0)).max() < 5 / np.sqrt(n)


def test_without_a_common_point_nothing_is_conditioned():
    arrays = square(4)
    tags = np.select([arrays.facet_tags == 1, arrays.facet_tags == 2], [1, 2], 3).astype(np.int32)
    arrays = replace(arrays, facet_tags=tags, facet_names={"outer": 1, "notch": 2, "rest": 3})
    problem = Notch(spon.Hierarchy.uniform(TaggedMesh(arrays, MPI.COMM_SELF), 0))
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(problem.sample(rng), problem.process(np.random.default_rng(0)))
