from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from stresses import von_mises

import spon
from meshes import box
from spon.data.fields import generator
from spon.fem.mesh import TaggedMesh

Bracket = spon.load_problem(spon.find_problem("bracket.py")).Bracket


def block(cell_type="tetrahedron", comm=MPI.COMM_SELF, **options):
    """A unit cube held by its planes of symmetry and loaded on x = 1."""
    arrays = box(cell_type, 2)
    names = {"left": "bolt", "right": "end"}
    arrays = replace(arrays, facet_names={names.get(k, k): tag for k, tag in arrays.facet_names.items()})
    problem = Bracket(spon.Hierarchy.uniform(TaggedMesh(arrays, comm), 0), **options)
    problem.boundary_values = {
        "bolt": (0.0, None, None),
        "bottom": (None, 0.0, None),
        "front": (None, None, 0.0),
    }
    return problem


@pytest.mark.mpi
@pytest.mark.parametrize(("cell_type", "degree"), [("tetrahedron", 1), ("hexahedron", 2)])
def test_uniaxial_tension_is_exact(cell_type, degree):
    problem = block(cell_type, MPI.COMM_WORLD, modulus=2.0, poisson=0.3, degree=degree)
    m = problem.encoders["t"](lambda x: np.stack([6 + 0 * x[0], 0 * x[0], 0 * x[0]]))
    u = problem.solve(m).reshape(-1, 3)
    np.testing.assert_allclose(u, problem.order.canonical.nodes * [3.0, -0.9, -0.9], atol=1e-11)
    if problem.comm.size == 1:
        np.testing.assert_allclose(von_mises(problem, u.ravel(), m), 6.0, rtol=1e-10)


def test_linear_in_the_traction_and_inverse_in_the_modulus():
    problem = block()
    one, two = (problem.sample(np.random.default_rng(k)) for k in (0, 1))
    u, v = problem.solve(one), problem.solve(two)
    size = np.abs(u).max()
    np.testing.assert_allclose(problem.solve(2 * one - two), 2 * u - v, atol=1e-11 * size)
    stiffer = block(modulus=2 * problem.modulus)
    np.testing.assert_allclose(stiffer.solve(one), u / 2, atol=1e-11 * size)


def test_the_traction_has_its_mean_and_deviation():
    problem = block(mean=(3.0, 0.0, -1.0), deviation=0.5, length=0.3)
    drawn = np.array([problem.sample(generator(0, k)) for k in range(1000)]).reshape(1000, -1, 3)
    np.testing.assert_allclose(drawn.mean(axis=0), np.tile([3.0, 0.0, -1.0], (drawn.shape[1], 1)), atol=0.08)
    np.testing.assert_allclose(drawn.std(axis=0), 0.5, rtol=0.1)
    flat = (drawn - drawn.mean(axis=0))[:, 0]
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 0.15


def test_what_makes_no_sense_is_refused():
    with pytest.raises(spon.SponError, match=r"poisson = 0\.5; allowed: -1 < poisson < 0\.5"):
        block(poisson=0.5)
    with pytest.raises(spon.SponError, match=r"mean = .*; allowed: three numbers"):
        block(mean=(1.0, 2.0))
