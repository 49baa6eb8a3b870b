"""Losses by the equations: gradients, minima, and training that never sees an output."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from equations import LINEAR, beam, notch
from mpi4py import MPI
from test_trainer import build, same

import spon
from spon.evaluation import relative_errors
from spon.training.physics_loss import PhysicsLoss
from spon.training.samples import Samples

SELF, WORLD = MPI.COMM_SELF, MPI.COMM_WORLD
CASES = ["diffusion", "elasticity", "beam"]
FREE = {"label_weight": 0.0}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A problem, its data, and a direction of homogeneous admissible functions."""
    problem = (LINEAR | {"beam": beam})[request.param]()
    data = spon.generate(problem, 3, seed=4)
    Z = problem.constraint.Z
    rng = np.random.default_rng(0)
    x = problem.discretisation.levels[0].points
    # smooth, so that no cell folds
    wave = np.sin(3 * x[:, :1] / np.ptp(x, axis=0).max() + rng.uniform(0, 6, (1, Z.shape[0] // len(x))))
    free = problem.constraint.free(wave.ravel()[None] + problem.constraint.shift)
    size = 0.1 * np.abs(data.outputs).max() if problem.linear else 1e-3 * np.ptp(x, axis=0).max()
    return problem, data, torch.as_tensor(size * (Z @ free[0]))[None].expand(3, -1)


@pytest.mark.parametrize("name", ["residual", "potential"])
def test_gradients_are_those_of_finite_differences(case, name):
    """At a point away from the solution; that of the residual is the loss's own, since B is fixed."""
    _, data, d = case
    loss, which = PhysicsLoss(name, data), torch.tensor([2, 0])
    u = (torch.as_tensor(data.outputs[[2, 0]]) + d[:2]).requires_grad_()
    values = loss(u, which)
    (gradient,) = torch.autograd.grad(values.sum(), u)
    step = 1e-4
    ends = [loss(u.detach() + sign * step * d[:2], which).sum() for sign in (1, -1)]
    slope = float((gradient * d[:2]).sum())
    assert abs(float(ends[0] - ends[1]) / (2 * step) - slope) < 1e-4 * abs(slope)
    assert abs(slope) > 1e-6


def test_the_discrete_solution_is_the_minimum(case):
    problem, data, d = case
    u, which = torch.as_tensor(data.outputs), torch.arange(3)
    residual, potential = (PhysicsLoss(name, data) for name in ("residual", "potential"))
    assert float(residual(u, which).max()) < 1e-6
    lowest = potential(u, which)
    for t in (1.0, -1.0, 0.1, -0.1):
        assert bool((potential(u + t * d, which) > lowest).all())
        assert bool((residual(u + t * d, which) > 1e-3 * abs(t) * float(residual(u + d, which).max())).all())
    if problem.linear:  # then both are the relative energy error
        kernel, m = residual.solver.kernel, torch.as_tensor(data.inputs)
        error, size = ((v * kernel.jacobian(None, m, v)).sum(1).sqrt() for v in (d, u))
        torch.testing.assert_close(residual(u + d, which), error / size, rtol=0.1, atol=0.0)
        gained = potential(u + d, which) - lowest
        torch.testing.assert_close(gained.sqrt(), error / size, rtol=0.02, atol=0.0)
        assert float(lowest.max()) <= 1e-12
        assert float(lowest.min()) > -1e-3  # u0 is that near


def test_surrogates_are_admissible_and_near(case):
    problem, data, _ = case
    u = PhysicsLoss("residual", data).surrogates.numpy()
    rest = u - problem.constraint.expand(problem.constraint.free(u))
    assert np.abs(rest).max() < 1e-12 * np.abs(u).max()
    errors = relative_errors(data, u, "h1")
    assert errors.max() < 0.1
    assert errors.max() > 1e-9  # a solve would be a label


@pytest.mark.parametrize("name", ["residual", "potential"])
def test_training_without_labels_never_reads_an_output(problem, dataset, name):
    train, validation = dataset.split(18, 6)
    settings = spon.Training(epochs=8, microbatch=4, learning_rate=1e-2, physics_loss=name, **FREE)
    model, blind = build(problem), build(problem)
    history = spon.Trainer(model, train, settings, validation).run()
    spoilt = replace(train, outputs=np.zeros_like(train.outputs))
    others = replace(validation, outputs=validation.outputs[::-1].copy())
    spon.Trainer(blind, spoilt, settings, others).run()
    assert same(model, blind)
    assert history.best.error == history.best.errors[name]
    mean = relative_errors(validation, np.tile(train.outputs.mean(axis=0), (6, 1)), "h1").mean()
    assert relative_errors(validation, model.predict(validation.inputs), "h1").mean() < 0.8 * mean


def test_labels_and_equations_are_mixed_by_their_weight(problem, dataset):
    train, validation = dataset.split(18, 6)
    settings = spon.Training(epochs=1, physics_loss="residual", label_weight=0.25, loss="l2")
    model = build(problem)
    model.fit_normalisation(train.inputs, train.outputs)
    physics = PhysicsLoss("residual", train)
    samples, which = Samples(model, train, ("l2",), physics), torch.arange(4)
    predicted = samples.predicted(which)
    parts = samples.relative("l2", predicted, which), physics(predicted, which)
    torch.testing.assert_close(samples.loss(settings, predicted, which), 0.25 * parts[0] + 0.75 * parts[1])
    best = spon.Trainer(model, train, settings, validation).run().best
    assert best.error == pytest.approx(0.25 * best.errors["l2"] + 0.75 * best.errors["residual"], rel=1e-14)


@pytest.mark.mpi
def test_ranks_without_labels_agree_with_one(problem, dataset):
    settings = spon.Training(epochs=1, batch_size=6, physics_loss="potential", **FREE)
    found = []
    for comm in (SELF, WORLD):
        model = build(problem)
        spon.train(model, dataset, settings, comm)
        found.append(model)
    assert same(*found)


def test_boundary_data_of_each_sample():
    """The loose solves take the samples' own values."""
    problem = notch()
    data = spon.generate(problem, 3, seed=0)
    assert data.shifts is not None
    loss = PhysicsLoss("residual", data)
    fixed = problem.constraint.fixed
    np.testing.assert_allclose(loss.surrogates.numpy()[:, fixed], data.outputs[:, fixed], atol=1e-12)
    assert float(loss(torch.as_tensor(data.outputs), torch.arange(3)).max()) < 1e-6


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"physics_loss": "energy", **FREE}, "physics_loss 'energy'; allowed: none, residual, potential"),
        ({"label_weight": 1.5}, r"label_weight = 1.5; allowed: 0 <= label_weight <= 1"),
        (FREE, "physics_loss 'none' with label_weight = 0.0; allowed: 'none' with 1, 'residual' or"),
        ({"physics_loss": "residual"}, "physics_loss 'residual' with label_weight = 1.0; allowed: 'none' w"),
    ],
)
def test_settings_that_contradict_are_refused(settings, line):
    with pytest.raises(spon.SponError, match=line):
        spon.Training(**settings)


def test_data_without_equations_are_refused(problem, dataset):
    settings = spon.Training(physics_loss="residual", **FREE)
    with pytest.raises(spon.SponError, match="physics_loss 'residual' for a data set without equations; all"):
        spon.train(build(problem), replace(dataset, physics=None), settings)
    with pytest.raises(spon.SponError, match="physics loss 'none'; allowed: residual, potential"):
        PhysicsLoss("none", dataset)
