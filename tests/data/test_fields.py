import numpy as np
import pytest
from conftest import on_square

import spon
from spon.data.fields import generator


@pytest.fixture(scope="module")
def level():
    hierarchy = on_square(40, 0)
    space = spon.lagrange(hierarchy.finest)
    return spon.discretise(hierarchy, space, spon.dirichlet(hierarchy.finest, space, {"left": 0.0})).levels[0]


def test_streams_depend_on_seed_and_sample_alone():
    first = generator(3, 5).standard_normal(4)
    generator(3, 4).standard_normal(100)
    np.testing.assert_array_equal(generator(3, 5).standard_normal(4), first)
    others = [generator(s, i).standard_normal(4) for s, i in ((3, 4), (3, 6), (4, 5), (0, 0))]
    assert all(np.abs(o - first).max() > 1e-3 for o in others)


def test_variance_and_correlation_are_those_of_the_matern_covariance(level):
    """Exact covariance A⁻¹ M_L A⁻¹/σ² at the centre against (κr) K₁(κr), κ = √8/ℓ."""
    from scipy.special import k1

    length = 0.4
    field = spon.MaternField(level, length)
    x, y = level.points.T
    n = len(x)
    centre = int(np.argmin((x - 0.5) ** 2 + (y - 0.5) ** 2))
    rows = np.array([field._solve(field._noise * e) for e in np.eye(n)]).T  # field = rows @ z
    covariance = rows @ rows[centre]
    assert covariance[centre] == pytest.approx(1.0, abs=0.05)
    for r in (0.05, 0.1, 0.2):
        node = int(np.argmin((x - 0.5 - r) ** 2 + (y - 0.5) ** 2))
        scaled = np.sqrt(8) / length * r
        assert covariance[node] == pytest.approx(scaled * k1(scaled), abs=0.04)


def test_length_must_be_positive(level):
    with pytest.raises(spon.SponError, match=r"correlation length 0; allowed: > 0"):
        spon.MaternField(level, 0)
