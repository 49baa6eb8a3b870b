"""Gaussian processes: sample covariance, reproducibility and smoothness."""

import numpy as np
import pytest
from test_fields import check_covariance

import spon
from spon.data.fields import generator

RADIAL = {
    "squared exponential": lambda r: np.exp(-(r**2) / 2),
    "exponential": lambda r: np.exp(-r),
    "matern 3/2": lambda r: (1 + 3**0.5 * r) * np.exp(-(3**0.5) * r),
    "matern 5/2": lambda r: (1 + 5**0.5 * r + 5 / 3 * r**2) * np.exp(-(5**0.5) * r),
}


def triangle(n):
    """n points on each side of a triangle, (3n, 2)."""
    t = np.arange(n)[:, None] / n
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    return np.concatenate([(1 - t) * corners[k] + t * corners[(k + 1) % 3] for k in range(3)])


@pytest.mark.parametrize("kernel", RADIAL)
def test_draws_have_the_covariance_of_the_kernel(kernel):
    points = triangle(40)
    field = spon.GaussianProcess(points, 0.2, kernel, variance=4.0)
    chosen = [0, 3, 10, 60, 119]
    distance = np.linalg.norm(points[chosen][:, None] - points[chosen], axis=2)
    drawn = field.batch(generator(4, i) for i in range(4000))
    check_covariance(drawn[:, chosen], 4.0 * RADIAL[kernel](distance / 0.2))


def test_truncation_does_not_show_and_no_noise_is_added():
    """The nearly singular matrix of a smooth kernel: equal points have equal values."""
    points = triangle(100)
    twice = np.concatenate([points, points])
    values = spon.GaussianProcess(twice, 0.2)(generator(0, 0))
    np.testing.assert_allclose(values[:300], values[300:], atol=1e-6)
    root = spon.GaussianProcess(points, 0.2)._root
    exact = RADIAL["squared exponential"](np.linalg.norm(points[:, None] - points, axis=2) / 0.2)
    np.testing.assert_allclose(root @ root, exact, atol=1e-9)


def test_renumbered_points_have_renumbered_draws(rng):
    points = triangle(20)
    other = rng.permutation(60)
    roots = [spon.GaussianProcess(p, 0.2)._root for p in (points, points[other])]
    np.testing.assert_allclose(roots[1], roots[0][np.ix_(other, other)], atol=1e-5)


def test_a_batch_has_the_single_draws():
    field = spon.GaussianProcess(triangle(20), 0.2)
    batch = field.batch([generator(2, i) for i in (4, 0, 9)])
    for row, i in zip(batch, (4, 0, 9), strict=True):
        np.testing.assert_allclose(row, field(generator(2, i)), atol=1e-13)
    assert field.batch([]).shape == (0, 60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0.0}, r"length 0.0, variance 1.0; allowed: > 0"),
        ({"variance": -1.0}, r"variance -1.0; allowed: > 0"),
        ({"kernel": "cubic"}, r"kernel 'cubic'; allowed: 'squared exponential', "),
        ({"points": np.zeros(3)}, r"points of shape \(3,\); allowed: "),
        ({"points": np.zeros((5001, 1))}, r"points of shape \(5001, 1\); allowed: \(1 to 5000, d\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(spon.SponError, match=message):
        spon.GaussianProcess(**({"points": triangle(3), "length": 0.2} | arguments))
