"""Matérn fields: variance and covariance against theory, on every kind of level."""

import numpy as np
import pytest
from conftest import on_square
from mpi4py import MPI
from scipy.special import gamma, kv

import spon
from meshes import box
from spon.data.fields import generator
from spon.fem.levels import freeze_levels
from spon.fem.mesh import TaggedMesh


def on_box(cell, n, degree):
    hierarchy = spon.Hierarchy.uniform(TaggedMesh(box(cell, n), MPI.COMM_SELF), 0)
    count = (degree * n + 1) ** (2 if cell in ("triangle", "quadrilateral") else 3)
    return freeze_levels(hierarchy, degree, np.zeros(count, dtype=bool))[0]


@pytest.fixture(scope="module")
def level():
    hierarchy = on_square(40, 0)
    space = spon.lagrange(hierarchy.finest)
    return spon.discretise(hierarchy, space, spon.dirichlet(hierarchy.finest, space, {"left": 0.0})).levels[0]


def nearest(level, *place):
    return int(np.argmin(((level.points - np.array(place)) ** 2).sum(axis=1)))


def matern(nu, length, r):
    scaled = np.maximum(np.sqrt(8 * nu) / length * r, 1e-9)
    return 2 ** (1 - nu) / gamma(nu) * scaled**nu * kv(nu, scaled)


def reflected(nu, length, place):
    """Variance in the unit box: Matérn covariance with all mirror images in its sides."""
    images = [np.concatenate([2 * np.arange(-3, 4) + x, 2 * np.arange(-3, 4) - x]) for x in place]
    offsets = np.meshgrid(*[image - x for image, x in zip(images, place, strict=True)])
    return matern(nu, length, np.sqrt(sum(o**2 for o in offsets))).sum()


def test_streams_depend_on_seed_and_sample_alone():
    first = generator(3, 5).standard_normal(4)
    generator(3, 4).standard_normal(100)
    np.testing.assert_array_equal(generator(3, 5).standard_normal(4), first)
    others = [generator(s, i).standard_normal(4) for s, i in ((3, 4), (3, 6), (4, 5), (0, 0))]
    assert all(np.abs(o - first).max() > 1e-3 for o in others)


@pytest.mark.parametrize("alpha", [2, 3, 4])
def test_variance_and_correlation_are_those_of_the_matern_covariance(level, alpha):
    length = 0.4
    centre = nearest(level, 0.5, 0.5)
    covariance = spon.MaternField(level, length, alpha=alpha).covariance(centre)
    assert covariance[centre] == pytest.approx(1.0, abs=0.05)
    for r in (0.05, 0.1, 0.2):
        node = nearest(level, 0.5 - r, 0.5)
        assert covariance[node] == pytest.approx(matern(alpha - 1, length, r), abs=0.05)


@pytest.mark.parametrize(
    ("cell", "n", "degree", "alpha"),
    [
        ("triangle", 24, 2, 2),
        ("triangle", 12, 2, 3),
        ("quadrilateral", 32, 1, 2),
        ("quadrilateral", 16, 2, 4),
        ("tetrahedron", 12, 1, 3),
        ("hexahedron", 6, 2, 3),
    ],
)
def test_every_level_has_the_variance_of_theory_inside_and_at_the_boundary(cell, n, degree, alpha):
    level = on_box(cell, n, degree)
    d = level.gdim
    length = 0.45 if d == 2 else 0.6
    field = spon.MaternField(level, length, alpha, variance=2.0)
    for on in range(3):  # inside, on a side, where two sides meet
        node = nearest(level, *([0.0] * on + [0.5] * (d - on)))
        expected = 2.0 * reflected(alpha - d / 2, length, level.points[node])
        assert expected > 2.0 * 2**on
        assert field.covariance(node)[node] == pytest.approx(expected, rel=0.07)


@pytest.mark.parametrize("degree", [1, 2])
def test_refinement_brings_the_variance_closer_to_theory(degree):
    gaps = []
    for n in (8, 16, 32):
        level = on_box("quadrilateral", n, degree)
        centre = nearest(level, 0.5, 0.5)
        found = spon.MaternField(level, 0.4).covariance(centre)[centre]
        gaps.append(abs(found - reflected(1.0, 0.4, level.points[centre])))
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]


@pytest.mark.parametrize("alpha", [2, 3])
def test_draws_have_the_covariance_stated(level, alpha):
    field = spon.MaternField(level, 0.3, alpha)
    samples = 2000
    drawn = field.batch(generator(5, i) for i in range(samples))
    nodes = [nearest(level, *p) for p in ((0.5, 0.5), (0.4, 0.5), (0.0, 0.5), (1.0, 1.0))]
    stated = np.array([field.covariance(i)[nodes] for i in nodes])
    check_covariance(drawn[:, nodes], stated)


def check_covariance(drawn, stated):
    """Mean and covariance within 4.5 standard deviations of theirs for normal samples."""
    samples = len(drawn)
    variance = np.diag(stated)
    assert (np.abs(drawn.mean(axis=0)) <= 4.5 * np.sqrt(variance / samples)).all()
    spread = np.sqrt((np.multiply.outer(variance, variance) + stated**2) / samples)
    assert (np.abs(drawn.T @ drawn / samples - stated) <= 4.5 * spread).all()


@pytest.mark.parametrize("alpha", [2, 3])
def test_a_batch_has_the_single_draws(level, alpha):
    field = spon.MaternField(level, 0.3, alpha)
    batch = field.batch([generator(2, i) for i in (4, 0, 9)])
    for row, i in zip(batch, (4, 0, 9), strict=True):
        np.testing.assert_allclose(row, field(generator(2, i)), atol=1e-12)
    assert field.batch([]).shape == (0, len(level.points))


def test_bad_arguments_are_named(level):
    with pytest.raises(spon.SponError, match=r"correlation length 0, variance 1.0; allowed: > 0"):
        spon.MaternField(level, 0)
    for alpha in (1, 2.5):
        with pytest.raises(spon.SponError, match=rf"alpha = {alpha}; allowed in 2 .* whole numbers > 1"):
            spon.MaternField(level, 0.1, alpha)
