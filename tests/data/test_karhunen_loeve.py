"""Fields on boxes: the covariance of the series, its zero mean, and points of any kind."""

import numpy as np
import pytest
from test_fields import check_covariance

import spon
from spon.data.fields import generator

PLACES = np.array([[0.5, 0.5], [0.4, 0.55], [0.0, 0.2], [1.0, 1.0]])
UNIT = ([0.0, 0.0], [1.0, 1.0])


def cell_centres(*shape):
    axes = [(np.arange(n) + 0.5) / n for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))


def analytic(boundary, p, q, tau, alpha, modes):
    """Covariance of the series at two points of the unit square, term by term."""
    k, l = np.meshgrid(np.arange(modes), np.arange(modes), indexing="ij")  # noqa: E741
    weight = np.where(k > 0, 2.0, 1.0) * np.where(l > 0, 2.0, 1.0)
    if boundary == "Neumann":
        wave = np.pi
        product = [
            np.cos(wave * n * a) * np.cos(wave * n * b) for n, a, b in ((k, p[0], q[0]), (l, p[1], q[1]))
        ]
    else:
        wave = 2 * np.pi
        product = [np.cos(wave * n * (a - b)) for n, a, b in ((k, p[0], q[0]), (l, p[1], q[1]))]
    power = tau ** (2 * (alpha - 1)) * (wave**2 * (k**2 + l**2) + tau**2) ** (-alpha)
    power[0, 0] = 0.0
    return (weight * power * product[0] * product[1]).sum()


@pytest.mark.parametrize("boundary", ["Neumann", "periodic"])
def test_draws_have_the_covariance_of_the_series(boundary):
    field = spon.BoxField(PLACES, 3.0, 2.0, boundary, modes=16, box=UNIT)
    stated = np.array([[analytic(boundary, p, q, 3.0, 2.0, 16) for q in PLACES] for p in PLACES])
    np.testing.assert_allclose(field.variance, np.diag(stated), rtol=1e-12)
    check_covariance(field.batch(generator(3, i) for i in range(4000)), stated)


@pytest.mark.parametrize("boundary", ["Neumann", "periodic"])
@pytest.mark.parametrize("shape", [(64,), (40, 36), (20, 20, 22)])
def test_the_mean_vanishes_for_every_sample_unless_the_constant_is_kept(boundary, shape):
    """The midpoint rule integrates these modes exactly."""
    d, points = len(shape), cell_centres(*shape)
    box = (np.zeros(d), np.ones(d))
    fields = [spon.BoxField(points, 3.0, 2.0, boundary, 8, box, zero_mean) for zero_mean in (True, False)]
    means = [np.abs(field.batch([generator(1, i) for i in range(3)]).mean(axis=1)) for field in fields]
    assert (means[0] <= 1e-14).all()
    assert (means[1] >= 1e-4).all()


def test_a_sample_is_the_same_function_at_all_points():
    points = np.random.default_rng(0).uniform(size=(50, 3))
    box = (np.zeros(3), np.ones(3))
    whole = spon.BoxField(points, modes=12, box=box)(generator(0, 1))
    part = spon.BoxField(points[::7], modes=12, box=box)(generator(0, 1))
    np.testing.assert_allclose(part, whole[::7], atol=1e-14)


def test_a_scaled_box_has_the_scaled_field():
    points = cell_centres(5, 5)
    unit = spon.BoxField(points, 3.0, box=UNIT, modes=8)
    wide = spon.BoxField(4.0 * points + 1.0, 0.75, box=([1.0, 1.0], [5.0, 5.0]), modes=8)
    np.testing.assert_allclose(wide(generator(0, 0)), unit(generator(0, 0)), atol=1e-13)


def test_periodic_fields_are_periodic_and_neumann_fields_have_no_slope_at_the_sides():
    y = np.linspace(0.0, 1.0, 11)
    sides = [np.stack([np.full(11, x), y], 1) for x in (0.0, 1.0, 1e-5)]
    left, right, _ = (spon.BoxField(p, boundary="periodic", box=UNIT)(generator(0, 0)) for p in sides)
    np.testing.assert_allclose(left, right, atol=1e-12)
    left, right, inside = (spon.BoxField(p, box=UNIT)(generator(0, 0)) for p in sides)
    assert np.abs(left - right).max() > 1e-3
    assert np.abs(inside - left).max() <= 1e-5 * 1e-1


def test_the_default_number_of_modes_holds_the_variance():
    fields = [spon.BoxField(cell_centres(4, 4), box=UNIT, modes=m) for m in (64, 256)]
    np.testing.assert_allclose(fields[0].variance, fields[1].variance, rtol=2e-3)


def test_a_batch_has_the_single_draws_and_two_phases():
    field = spon.BoxField(cell_centres(9, 7), box=UNIT)
    batch = field.batch([generator(2, i) for i in (4, 0, 9)])
    for row, i in zip(batch, (4, 0, 9), strict=True):
        np.testing.assert_array_equal(row, field(generator(2, i)))
    phases = spon.threshold(batch, 12.0, 3.0)
    assert phases.shape == batch.shape
    np.testing.assert_array_equal(phases, 3.0 + 9.0 * (batch >= 0))
    assert field.batch([]).shape == (0, 63)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": 0.0}, r"tau = 0.0, .*; allowed: tau > 0, alpha > 1, modes >= 2"),
        ({"alpha": 1.0}, r"alpha > 1"),
        ({"boundary": "Robin"}, r"boundary 'Robin'; allowed: 'Neumann', 'periodic'"),
        ({"box": ([0, 0], [0.5, 1])}, r"points outside the box from \[0.0, 0.0\] to \[0.5, 1.0\]"),
        ({"box": ([0, 0], [1, 0])}, r"allowed: 2 sides of positive length"),
        ({"box": ([0], [1])}, r"allowed: 2 sides of positive length"),
        ({"points": np.zeros(3)}, r"points of shape \(3,\); allowed: "),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(spon.SponError, match=message):
        spon.BoxField(**({"points": PLACES} | arguments))
