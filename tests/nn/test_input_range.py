from dataclasses import replace

import numpy as np
import pytest
from runs import network

import spon
from spon.nn.input_range import InputRange, _left_out


@pytest.fixture(scope="module")
def model(dataset):
    return network(dataset, "log")


@pytest.fixture(scope="module")
def known(model, dataset):
    return InputRange.of(model, dataset)


def logs(dataset, inputs):
    """Inputs as the network sees them, up to constants, and their mass."""
    return np.log(inputs), dataset.discretisation.input.mass


def size(mass, x):
    return np.sqrt(np.einsum("...i,...i->...", x, (mass @ x.T).T))


def test_distances_are_those_of_the_mass_norm(model, known, dataset, problem):
    other = spon.generate(problem, 6, seed=5)
    x, mass = logs(dataset, dataset.inputs)
    y, _ = logs(dataset, other.inputs)
    spread = np.sqrt((size(mass, x - x.mean(axis=0)) ** 2).mean())
    nearest = [size(mass, x - one).min() / spread for one in y]
    np.testing.assert_allclose(known.distance(model, other.inputs).nearest, nearest, rtol=1e-9)
    among = [size(mass, np.delete(x, i, axis=0) - x[i]).min() / spread for i in range(len(x))]
    np.testing.assert_allclose(known.limits[0], max(among), rtol=1e-9)


def test_training_inputs_are_inside_and_near(model, known, dataset):
    found = known.distance(model, dataset.inputs)
    assert found.nearest.max() < 1e-6
    assert not found.outside.any()


def test_mahalanobis_distance_is_that_of_the_covariance(model, known, dataset):
    m = len(known.variances)
    assert m == len(dataset) // 5
    c = known.coefficients[:, :m]
    np.testing.assert_allclose(c.mean(axis=0), 0.0, atol=1e-12)
    covariance = np.cov(c.T)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", c, np.linalg.inv(covariance), c))
    np.testing.assert_allclose(known.distance(model, dataset.inputs).mahalanobis, expected, rtol=1e-8)
    left_out = []
    for i in range(len(c)):
        rest = np.delete(c, i, axis=0)
        gap = c[i] - rest.mean(axis=0)
        left_out.append(gap @ np.linalg.solve(np.cov(rest.T), gap))
    np.testing.assert_allclose(_left_out(expected**2, len(c)), left_out, rtol=1e-8)
    np.testing.assert_allclose(known.limits[1], np.sqrt(max(left_out)), rtol=1e-8)


def test_what_is_unlike_all_training_inputs_is_outside_and_says_why(model, known, dataset):
    x = dataset.inputs
    rough = np.where(np.arange(x.shape[1]) % 2, x.max(), x.min())[None]  # values that are known, in turn
    high = 1.3 * x[:1] * (x.max() / x[:1].max())
    far = known.distance(model, np.concatenate([rough, high, x.mean(axis=0, keepdims=True)]))
    assert far.outside.tolist() == [True, True, False]
    assert any(reason.startswith("distance ") for reason in far.reasons[0])
    assert any(reason.startswith("kappa from ") for reason in far.reasons[1])
    assert not any(reason.startswith("kappa from ") for reason in far.reasons[0])


def test_without_all_modes_distances_of_independent_inputs_are_nearly_right(
    model, dataset, problem, monkeypatch
):
    exact = InputRange.of(model, dataset)
    monkeypatch.setattr("spon.nn.input_range._NUMBERS", 0)
    monkeypatch.setattr("spon.nn.input_range._MAHALANOBIS", 8)
    short = InputRange.of(model, dataset)
    assert len(short.modes) == 8 < len(exact.modes)
    assert (short.remainders > 0).all()
    other = spon.generate(problem, 20, seed=9).inputs
    a, b = exact.distance(model, other).nearest, short.distance(model, other).nearest
    np.testing.assert_allclose(b, a, rtol=0.15)
    assert abs((b / a).mean() - 1) < 0.05


def test_it_is_the_same_after_a_file(model, known, dataset, tmp_path):
    known.save(tmp_path / "inputs.npz")
    again = InputRange.load(tmp_path / "inputs.npz")
    for name, value in vars(known).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    assert again.distance(model, dataset.inputs[:2]).reasons == ((), ())
    (tmp_path / "bad.npz").write_bytes((tmp_path / "inputs.npz").read_bytes()[:999])
    for path in (tmp_path / "bad.npz", tmp_path / "absent.npz"):
        with pytest.raises(spon.SponError, match="not a readable range of inputs"):
            InputRange.load(path)


def test_what_it_cannot_be_made_of_is_refused(model, known, dataset):
    with pytest.raises(spon.SponError, match="2 training samples; allowed: at least 3"):
        InputRange.of(model, dataset[:2])
    with pytest.raises(spon.SponError, match="belongs to another discretisation"):
        replace(known, fingerprint="0" * 64).distance(model, dataset.inputs)
