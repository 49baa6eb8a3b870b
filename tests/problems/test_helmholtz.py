from dataclasses import replace

import numpy as np
import pytest
import ufl
from conftest import square
from mpi4py import MPI
from scipy.special import hankel1

import spon
from spon.data.fields import generator
from spon.fem.mesh import TaggedMesh

Helmholtz = spon.load_problem(spon.find_problem("helmholtz.py")).Helmholtz


def on_square(n, obstacles, outer, kind=Helmholtz, comm=MPI.COMM_SELF, **options):
    """The unit square with some sides as obstacles and some as outer boundary."""
    arrays = square(n)
    new = {"obstacles": 1, "outer": 2, "walls": 3}
    chosen = [[arrays.facet_names[name] for name in sides] for sides in (obstacles, outer)]
    tags = np.select([np.isin(arrays.facet_tags, c) for c in chosen], [1, 2], 3).astype(np.int32)
    mesh = TaggedMesh(replace(arrays, facet_tags=tags, facet_names=new), comm)
    return kind(spon.Hierarchy.uniform(mesh, 0), **options)


def error(problem, exact):
    """Relative, in L2."""
    w = exact(problem.order.canonical.nodes.T)
    w = np.stack([w.real, w.imag], axis=1).ravel()
    difference = problem.solve(problem.sample(None)) - w
    gram = problem.discretisation.output.mass
    return np.sqrt(difference @ gram @ difference / (w @ gram @ w))


class Slab(Helmholtz):
    """1 + m = 2.25 in front of a soft wall at x = 0, a wave that comes from the right."""

    def sample(self, rng):
        return np.full(self.coefficients.sizes["m"], 1.25)


@pytest.mark.mpi
@pytest.mark.parametrize(("degree", "rate"), [(1, 2), (2, 3)])
def test_a_slab_before_a_wall_converges_to_its_solution_at_its_rate(degree, rate):
    """The total wave A sin(nkx), n = 1.5, meets an incoming and an outgoing wave at x = 1."""
    k, n = 5.0, 1.5
    A = -2j * k * np.exp(-1j * k) / (n * k * np.cos(n * k) - 1j * k * np.sin(n * k))

    def exact(x):
        return A * np.sin(n * k * x[0]) - np.exp(-1j * k * x[0])

    coarse, fine = (
        error(
            on_square(
                size, ["left"], ["right"], Slab, MPI.COMM_WORLD, wavenumber=k, angle=np.pi, degree=degree
            ),
            exact,
        )
        for size in (10, 20)
    )
    assert np.log2(coarse / fine) > rate - 0.2
    assert fine < 0.05


class Radiation(Helmholtz):
    """H₀(k|x − c|) of a source outside; what the outer condition leaves out is added."""

    centre = (-0.3, 0.4)

    @classmethod
    def exact(cls, x):
        return hankel1(0, 5.0 * np.hypot(x[0] - cls.centre[0], x[1] - cls.centre[1]))

    def sample(self, rng):
        return np.zeros(self.coefficients.sizes["m"])

    def residual(self, u, m, v):
        mesh = self.hierarchy.finest.dolfinx
        away = ufl.SpatialCoordinate(mesh) - ufl.as_vector(self.centre)
        r = ufl.sqrt(ufl.dot(away, away))
        normal = ufl.dot(away, ufl.FacetNormal(mesh)) / r
        J, Y = ([bessel(n, 5.0 * r) for n in (0, 1)] for bessel in (ufl.bessel_J, ufl.bessel_Y))
        left_out = ufl.as_vector([-5 * J[1] * normal + 5 * Y[0], -5 * Y[1] * normal - 5 * J[0]])
        ds = self.ds("outer")(metadata={"quadrature_degree": 8})
        return super().residual(u, m, v) - ufl.inner(left_out, v) * ds


@pytest.mark.mpi
def test_a_cylindrical_wave_converges_at_its_rate():
    def made(size):
        problem = on_square(
            size, ["left", "bottom"], ["right", "top"], Radiation, MPI.COMM_WORLD, wavenumber=5.0
        )
        problem.boundary_values = {
            "obstacles": lambda x: np.stack([Radiation.exact(x).real, Radiation.exact(x).imag])
        }
        return problem

    coarse, fine = error(made(5), Radiation.exact), error(made(10), Radiation.exact)
    assert np.log2(coarse / fine) > 2.8
    assert fine < 1e-3


def test_incidence_and_an_empty_medium_are_the_same_problem():
    options = {"group": MPI.COMM_SELF, "refinements": 0, "angle": 0.7}
    medium = Helmholtz.from_mesh(**options)
    incidence = Helmholtz.from_mesh(random="incidence", **options)
    g = incidence.encoders["g"](lambda x: -medium.incoming(x))
    u = medium.solve(np.zeros(medium.coefficients.sizes["m"]))
    np.testing.assert_allclose(incidence.solve(g), u, atol=1e-11)
    assert np.abs(u).max() > 0.5


def test_a_random_medium_is_positive_and_empty_at_the_outer_boundary():
    problem = Helmholtz.from_mesh(group=MPI.COMM_SELF, refinements=0, sigma=1.0)
    m = np.array([problem.sample(generator(0, k)) for k in range(50)])
    outer = np.unique(problem.discretisation.boundaries["outer"])
    assert np.abs(m[:, outer]).max() < 1e-3 * np.abs(m).max()
    assert m.min() > -1
    assert m.max() > 0.5


def test_incoming_waves_have_unit_mean_square_and_no_preferred_phase():
    problem = Helmholtz.from_mesh(group=MPI.COMM_SELF, refinements=0, random="incidence")
    g = np.array([problem.sample(generator(0, k)) for k in range(2000)])
    wave = g[:, ::2] + 1j * g[:, 1::2]
    np.testing.assert_allclose((np.abs(wave) ** 2).mean(axis=0), 1.0, atol=0.15)
    assert np.abs((wave**2).mean(axis=0)).max() < 0.15


def test_an_unknown_kind_of_input_is_refused():
    with pytest.raises(spon.SponError, match="random = 'shape'; allowed: 'medium', 'incidence'"):
        Helmholtz.from_mesh(random="shape")
