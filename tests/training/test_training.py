import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square
from mpi4py import MPI

import spon
from spon.evaluation import relative_errors
from spon.training.distributed import as_ranks, sum_in_order

WORLD = MPI.COMM_WORLD


def build(problem, seed=0, dtype="float64"):
    d = problem.discretisation
    processor = spon.Multigrid(d, widths=(6, 8), cycles=1, dtype=dtype, seed=seed)
    return spon.OperatorNetwork(d, processor, "log")


@pytest.mark.mpi
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_sums_are_in_order_on_any_number_of_ranks(parts):
    """1e16 + 1 - 1e16 + … depends on the order, so that another one would show."""
    values = torch.tensor([[1e16, 3.0], [1.0, 0.1], [-1e16, 0.2], [1.0, 0.3], [2.0, -3.0]])[:parts].double()
    expected = torch.zeros(2, dtype=torch.float64)
    for row in values:
        expected += row
    mine = list(values[WORLD.rank :: WORLD.size])
    assert torch.equal(sum_in_order(mine, parts, as_ranks(WORLD), values[0]), expected)


@pytest.mark.mpi
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_does_not_depend_on_the_number_of_ranks(problem, dataset, dtype):
    settings = spon.Training(epochs=3, batch_size=5)  # three microbatches, in the last batch one
    together, alone = build(problem, dtype=dtype), build(problem, dtype=dtype)
    a = spon.train(together, dataset[:21], settings, WORLD)
    b = spon.train(alone, dataset[:21], settings)
    assert a.losses == b.losses
    for p, q in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(p, q)


def test_training_learns_and_can_be_repeated(problem, dataset):
    settings = spon.Training(epochs=25, batch_size=4, learning_rate=1e-2)
    model, again = build(problem), build(problem)
    history = spon.train(model, dataset, settings)
    assert history.losses[-1] < 0.5 * history.losses[0]
    assert spon.train(again, dataset, settings).losses == history.losses
    errors = relative_errors(dataset, model.predict(dataset.inputs), "h1")
    mean = np.tile(dataset.outputs.mean(axis=0), (len(dataset), 1))
    assert errors.mean() < 0.5 * relative_errors(dataset, mean, "h1").mean()


def test_saved_and_loaded_predict_the_same(problem, dataset, tmp_path):
    for dtype in ("float32", "float64"):
        model = build(problem, dtype=dtype)
        spon.train(model, dataset, spon.Training(epochs=1))
        spon.save_model(tmp_path / "model.pt", model)
        loaded = spon.load_model(tmp_path / "model.pt", dataset.discretisation)
        np.testing.assert_array_equal(loaded.predict(dataset.inputs), model.predict(dataset.inputs))


def test_bad_checkpoints_are_refused(problem, tmp_path):
    d = problem.discretisation
    with pytest.raises(spon.SponError, match="no such checkpoint"):
        spon.load_model(tmp_path / "model.pt", d)
    (tmp_path / "text.pt").write_text("no")
    with pytest.raises(spon.SponError, match="not a readable checkpoint") as error:
        spon.load_model(tmp_path / "text.pt", d)
    assert "\n" not in str(error.value)
    spon.save_model(tmp_path / "model.pt", build(problem))
    other = Diffusion(on_square(2, 2)).discretisation
    with pytest.raises(spon.SponError, match="belongs to another discretisation"):
        spon.load_model(tmp_path / "model.pt", other)
    odd = spon.OperatorNetwork(d, type("Odd", (spon.Multigrid,), {})(d))
    with pytest.raises(spon.SponError, match=r"cannot save a processor Odd; allowed: .*Multigrid"):
        spon.save_model(tmp_path / "odd.pt", odd)


@pytest.mark.mpi
def test_foreign_data_and_bad_settings_are_refused(problem, dataset):
    other = build(Diffusion(on_square(2, 2)))
    with pytest.raises(spon.SponError, match="the model belongs to another discretisation"):
        spon.train(other, dataset, spon.Training(epochs=1), WORLD)
    for bad in ({"epochs": 0}, {"batch_size": -1}, {"learning_rate": 0.0}):
        with pytest.raises(spon.SponError, match="allowed: > 0"):
            spon.Training(**bad)
    with pytest.raises(spon.SponError, match="loss 'max'; allowed: l2, h1"):
        spon.Training(loss="max")
    with pytest.raises(
        spon.SponError, match=r"loss became nan in epoch 1, step .*; try a learning rate below"
    ):
        spon.train(build(problem), dataset, spon.Training(epochs=2, learning_rate=1e300), WORLD)
