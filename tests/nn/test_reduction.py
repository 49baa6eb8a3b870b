"""Principal components, ridge parameters, and the processors that rest on them."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from mpi4py import MPI
from test_processors import build

import spon
from spon.data.dataset import Dataset
from spon.evaluation import relative_errors
from spon.nn.reduction import input_mass, pod, ridge_parameter, unknown_mass

SELF = MPI.COMM_SELF


def mass_matrix(n):
    return sp.csr_array(
        sp.diags_array([np.ones(n - 1), 4 * np.arange(1, n + 1), np.ones(n - 1)], offsets=[-1, 0, 1])
    )


@pytest.mark.parametrize("shape", [(6, 20), (30, 12)])
def test_modes_are_orthonormal_and_give_the_samples_back(rng, shape):
    """Also with singular values over ten decades, which a Gram matrix would lose."""
    samples = rng.standard_normal(shape) @ np.diag(np.logspace(0, -10, shape[1]))
    mass = mass_matrix(shape[1])
    found = pod(samples, mass)
    rank = min(shape)
    assert found.modes.shape == (shape[1], rank)
    np.testing.assert_allclose(found.modes.T @ (mass @ found.modes), np.eye(rank), atol=1e-12)
    np.testing.assert_allclose(found.left.T @ found.left, np.eye(rank), atol=1e-12)
    assert (np.diff(found.values) <= 0).all()
    np.testing.assert_allclose(found.left * found.values @ found.modes.T, samples, atol=1e-14)
    expected = np.linalg.svd(samples @ np.linalg.cholesky(mass.toarray()), compute_uv=False)
    np.testing.assert_allclose(found.values, expected, atol=1e-14)


def test_what_the_samples_do_not_span_has_no_mode(rng):
    samples = rng.standard_normal((8, 2)) @ rng.standard_normal((2, 15))
    assert len(pod(samples, mass_matrix(15)).values) == 2
    assert len(pod(0 * samples, mass_matrix(15)).values) == 0


def test_ridge_parameter_is_nothing_without_noise_and_right_with_noise(rng):
    """Beside the ridge that is best for the truth, which the data do not show."""
    left, values, _ = np.linalg.svd(
        rng.standard_normal((200, 30)) * np.logspace(0, -3, 30), full_matrices=False
    )
    left -= left.mean(axis=0)
    left, _ = np.linalg.qr(left)
    truth = rng.standard_normal((30, 5)) * values[:, None]

    def chosen(noise):
        y = left @ truth + noise * rng.standard_normal((200, 5))
        y -= y.mean(axis=0)
        projected = left.T @ y
        rest = ((y - left @ projected) ** 2).sum()
        ridge = ridge_parameter(values, (projected**2).sum(axis=1), rest, 200)
        error = lambda shift: np.linalg.norm((values**2 / (values**2 + shift))[:, None] * projected - truth)  # noqa: E731
        best = min(error(values[0] ** 2 * 10.0**k) for k in np.linspace(-24, 1, 200))
        return ridge / values[0] ** 2, error(ridge) / best

    assert chosen(0.0)[0] < 1e-15
    ridge, ratio = chosen(0.3)
    assert ridge > 1e-6
    assert ratio < 1.2


@pytest.fixture(scope="module")
def notch():
    problem = spon.load_problem(spon.find_problem("notch.py")).Notch.from_mesh(group=SELF, refinements=0)
    return spon.generate(problem, 200, seed=2)


@pytest.mark.parametrize("lifting", ["harmonic", "zero"])
def test_linear_solves_the_notch(notch, lifting):
    """With the harmonic extension of the boundary values a constant is left to learn; without it, all."""
    data = notch
    shifts = data.shifts
    if lifting == "zero":
        shifts = np.where(data.discretisation.constraint.fixed, shifts, 0.0)
    model = build(data.discretisation, "Linear")
    model.fit_normalisation(data.inputs[:160], data.outputs[:160], shifts[:160])
    test = data[160:]
    u = model.predict(test.inputs, shift=shifts[160:])
    if lifting == "zero":
        assert relative_errors(test, shifts[160:] + model.output_mean.numpy(), "l2").mean() > 0.1
    assert relative_errors(test, u, "l2").max() < 1e-6
    assert relative_errors(test, u, "h1").max() < 1e-6


@pytest.mark.parametrize("ridge", [None, 0.0])
def test_linear_is_exact_for_affine_operators_on_all_that_the_samples_span(problem, ridge):
    d = problem.discretisation
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((20, d.dofs))
    operator = rng.standard_normal((d.dofs, d.constraint.Z.shape[1])) / d.dofs
    inputs = 3 + rng.standard_normal((40, 20)) @ basis
    outputs = d.constraint.expand(1 + inputs @ operator)
    data = Dataset(d, inputs, outputs, np.arange(40))
    train, test = data.split(30, 10)
    model = spon.OperatorNetwork(d, spon.Linear(d, ridge))
    history = spon.train(model, train)
    assert history.losses == []
    assert model.processor.directions.shape == (d.dofs, 20)
    assert relative_errors(test, model.predict(test.inputs), "l2").max() < 1e-9


def test_linear_of_least_norm_is_orthogonal_to_what_it_has_not_seen(problem, dataset):
    """A change of the input that is mass-orthogonal to all samples changes nothing."""
    d = problem.discretisation
    model = build(d, "Linear", ridge=0.0)
    spon.train(model, dataset)
    x = model.standardise(torch.as_tensor(dataset.inputs)).numpy()
    seen = pod(x - x.mean(axis=0), input_mass(d))
    rng = np.random.default_rng(1)
    change = rng.standard_normal(d.dofs)
    change -= seen.modes @ (seen.modes.T @ (input_mass(d) @ change))
    assert np.abs(change).max() > 0.1
    before, after = (
        model.predict(dataset.inputs[:1] + c) for c in (0.0, 0.5 * change * model.input_scale.item())
    )
    np.testing.assert_allclose(after, before, atol=1e-12)
    across = model.predict(dataset.inputs[:1] + 0.5 * seen.modes[:, 0] * model.input_scale.item())
    assert np.abs(across - before).max() > 1e-4
    np.testing.assert_allclose(model.predict(dataset.inputs), dataset.outputs, atol=1e-8)


def test_linear_of_cross_validation_chooses_well_where_outputs_are_noisy(problem):
    """Far better than the least norm, and nearly as good as the best of many parameters on unseen samples."""
    d = problem.discretisation
    train, test = spon.generate(problem, 170, seed=3).split(150, 20)
    noise = 0.2 * np.random.default_rng(0).standard_normal((150, d.constraint.Z.shape[1]))
    noisy = replace(train, outputs=train.outputs + noise @ d.constraint.Z.T)

    def error(ridge):
        model = build(d, "Linear", "log", ridge=ridge)
        spon.train(model, noisy)
        return relative_errors(test, model.predict(test.inputs), "l2").mean()

    assert error(None) < 0.5 * error(0.0)
    assert error(None) < 1.2 * min(error(10.0**k) for k in range(-5, 1))


def test_low_rank_reaches_the_floor_of_its_modes(problem, dataset):
    d = problem.discretisation
    data, rank = dataset[:8], 3
    model = build(d, "LowRank", "log", rank=rank, input_rank=7, width=64)
    spon.train(
        model, data, spon.Training(epochs=300, batch_size=8, microbatch=8, learning_rate=1e-2, loss="l2")
    )
    unknowns = d.constraint.free(data.outputs)
    mean, mass = unknowns.mean(axis=0), unknown_mass(d)
    modes = pod(unknowns - mean, mass).modes[:, :rank]
    best = d.constraint.expand(mean + (unknowns - mean) @ (mass @ modes) @ modes.T)
    floor = relative_errors(data, best, "l2")
    assert floor.mean() > 1e-3
    reached = relative_errors(data, model.predict(data.inputs), "l2")
    assert (reached >= floor * (1 - 1e-9)).all()
    assert reached.mean() < 1.02 * floor.mean()


def test_low_rank_starts_from_the_linear_regression(problem, dataset):
    """With all modes and no training it is the closed form; a rank above that of the samples is no error."""
    d, n = problem.discretisation, 16
    full, linear = build(d, "LowRank", "log", rank=40, input_rank=30), build(d, "Linear", "log")
    for model in (full, linear):
        model.fit_normalisation(dataset.inputs[:n], dataset.outputs[:n])
    u = linear.predict(dataset.inputs[n:])
    assert np.abs(u - dataset.outputs[:n].mean(axis=0)).max() > 0.01
    np.testing.assert_allclose(full.predict(dataset.inputs[n:]), u, atol=1e-10)
    assert (full.processor.modes[n - 1 :] == 0).all()
    assert (full.processor.modes[: n - 1] != 0).any(dim=1).all()


def test_training_lowers_what_the_regression_leaves(problem, dataset):
    model = build(problem.discretisation, "LowRank", "log", rank=20, input_rank=20, width=32)
    history = spon.train(
        model, dataset, spon.Training(epochs=80, batch_size=8, microbatch=8, learning_rate=3e-3)
    )
    assert history.losses[-1] < 0.7 * history.losses[0]
