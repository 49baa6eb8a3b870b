"""Trainer: resumption, schedules, averages, validation, L-BFGS, divergence."""

import itertools
import signal

import numpy as np
import pytest
import torch
from mpi4py import MPI

import spon
from spon.evaluation import relative_errors
from spon.training.average import MovingAverage
from spon.training.history import Position
from spon.training.interruption import Interrupted
from spon.training.schedule import learning_rate_factor

WORLD = MPI.COMM_WORLD


def build(problem, seed=0, dtype="float64"):
    d = problem.discretisation
    processor = spon.Multigrid(d, widths=(4, 6), cycles=1, dtype=dtype, seed=seed)
    return spon.OperatorNetwork(d, processor, "log")


class Memory:
    """A store; `stop` is called at every write, and may raise."""

    def __init__(self, stop=lambda: None):
        self.states, self._stop = [], stop

    def read(self):
        return self.states[-1] if self.states else None

    def write(self, state, model):
        import io

        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        self.states.append(torch.load(buffer, weights_only=True))
        self._stop()


class KilledError(Exception):
    pass


def kill_after(writes):
    left = itertools.count(writes - 1, -1)

    def stop():
        if next(left) == 0:
            raise KilledError

    return stop


def same(model, other):
    a, b = model.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_killed_and_resumed_is_the_same_to_the_last_bit(problem, dataset):
    """At any step, in AdamW and in L-BFGS; a checkpoint at every look at the clock."""
    settings = spon.Training(
        epochs=2, batch_size=6, microbatch=6, lbfgs=12, ema=0.9, checkpoint_seconds=1e-9, validate_every=2
    )
    train, validation = dataset.split(18, 6)
    whole = build(problem)
    expected = spon.Trainer(whole, train, settings, validation).run()
    for writes, step, groups in ((2, 1, 0), (5, 4, 0), (7, 6, 0), (8, 6, 1)):
        store = Memory(kill_after(writes))
        with pytest.raises(KilledError):
            spon.Trainer(build(problem), train, settings, validation, store=store).run()
        position = Position(**store.read()["position"])
        assert (position.step, position.groups, position.finished) == (step, groups, False)
        store._stop = lambda: None
        again = build(problem, seed=9)  # its parameters come from the store
        history = spon.Trainer(again, train, settings, validation, store=store).run()
        assert same(again, whole)
        assert history.losses == expected.losses
        assert [r.validation_h1 for r in history.rows] == [r.validation_h1 for r in expected.rows]
    finished = build(problem)
    assert spon.Trainer(finished, train, settings, validation, store=store).run().losses == expected.losses
    assert same(finished, whole)


def test_a_signal_writes_the_state(problem, dataset):
    settings = spon.Training(epochs=2, batch_size=6, checkpoint_seconds=1e-9)
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    for number in (signal.SIGINT, signal.SIGTERM):
        left = itertools.count()
        store = Memory(lambda left=left, number=number: next(left) == 1 and signal.raise_signal(number))
        with pytest.raises(Interrupted) as stop:
            spon.Trainer(build(problem), dataset, settings, store=store).run()
        assert stop.value.signal == number
        assert store.read()["position"]["step"] == 2
        model, whole = build(problem), build(problem)
        store._stop = lambda: None
        spon.Trainer(model, dataset, settings, store=store).run()
        spon.train(whole, dataset, settings)
        assert same(model, whole)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_states_of_other_runs_are_refused(problem, dataset):
    settings = spon.Training(epochs=1, batch_size=12)
    store = Memory()
    spon.Trainer(build(problem), dataset, settings, store=store).run()
    other = spon.Training(epochs=1, batch_size=12, clip=2.0)
    with pytest.raises(spon.SponError, match=r"clip = 2.0, but 1.0 in the checkpoint"):
        spon.Trainer(build(problem), dataset, other, store=store).run()
    with pytest.raises(spon.SponError, match="other data: the fingerprints differ"):
        spon.Trainer(build(problem), dataset, settings, dataset, store=store).run()
    store.states[-1]["format"] = 99
    with pytest.raises(spon.SponError, match="checkpoint format 99; allowed: 1"):
        spon.Trainer(build(problem), dataset, settings, store=store).run()


@pytest.mark.mpi
def test_validation_and_finish_do_not_depend_on_the_number_of_ranks(problem, dataset):
    settings = spon.Training(epochs=2, batch_size=5, lbfgs=2, ema=0.5, microbatch=2)
    train, validation = dataset.split(17, 7)
    together, alone = build(problem), build(problem)
    a = spon.Trainer(together, train, settings, validation, WORLD).run()
    b = spon.Trainer(alone, train, settings, validation).run()
    assert same(together, alone)
    assert a.losses == b.losses
    assert a.best.errors == b.best.errors
    errors = relative_errors(validation, alone.predict(validation.inputs), "h1")  # each sample once
    assert a.best.errors["h1"] == pytest.approx(errors.mean(), rel=1e-10)
    assert a.best.errors["h1"] == min(row.validation_h1 for row in a.rows)


def test_lbfgs_lowers_the_loss(problem, dataset):
    plain, polished, large = build(problem), build(problem), build(problem)
    dataset = dataset[:12]
    settings = {"epochs": 3, "batch_size": 6, "microbatch": 6}
    a = spon.train(plain, dataset, spon.Training(**settings))
    b = spon.train(polished, dataset, spon.Training(**settings, lbfgs=20))
    c = spon.train(large, dataset, spon.Training(**settings, lbfgs=10, lbfgs_samples=8))
    assert b.losses[:3] == a.losses
    assert b.losses[4] < b.losses[3] < 0.95 * a.losses[-1]
    errors = [relative_errors(dataset, m.predict(dataset.inputs), "h1").mean() for m in (plain, polished)]
    assert errors[1] == pytest.approx(b.losses[-1], rel=1e-9)  # the loss is that of all samples
    assert errors[1] < 0.95 * errors[0]
    assert c.losses[-1] < a.losses[-1]


def test_gradients_are_those_of_the_mean_loss(problem, dataset):
    """Over microbatches and batches, against finite differences."""
    model = build(problem)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    trainer = spon.Trainer(model, dataset[:7], spon.Training(batch_size=4, microbatch=3))
    batches = trainer._batches(0)
    trainer._gradient(batches)
    gradients = [p.grad.clone() for p in model.parameters()]
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in model.parameters()]
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(model.parameters(), direction, strict=True):
                p += sign * step * d
            values.append(relative_errors(dataset[:7], model.predict(dataset.inputs[:7]), "h1").mean())
    slope = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


def test_moving_average():
    p = torch.zeros(2, dtype=torch.float64)
    average, plain = MovingAverage([p], 0.5), MovingAverage([p], 0.0)
    expected = p.clone()
    for n in range(20):
        p += 1.0
        average.update()
        plain.update()
        d = min(0.5, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * p
    with average.applied():
        torch.testing.assert_close(p, expected)
    torch.testing.assert_close(p, torch.full_like(p, 20.0))
    with plain.applied():
        assert torch.equal(p, torch.full_like(p, 20.0))
    other = MovingAverage([p], 0.5)
    other.load_state_dict(average.state_dict())
    other.apply()
    torch.testing.assert_close(p, expected)


def test_the_average_is_what_is_validated_and_kept(problem, dataset):
    settings = spon.Training(epochs=2, ema=0.99, learning_rate=2e-2)
    averaged, plain = build(problem), build(problem)
    history = spon.Trainer(averaged, dataset[:16], settings, dataset[16:]).run()
    spon.Trainer(plain, dataset[:16], spon.Training(epochs=2, learning_rate=2e-2), dataset[16:]).run()
    assert not same(averaged, plain)
    errors = relative_errors(dataset[16:], averaged.predict(dataset.inputs[16:]), "h1")
    assert history.best.errors["h1"] == pytest.approx(errors.mean(), rel=1e-10)


def test_schedules_rise_and_fall():
    for kind in ("cosine", "linear"):
        rates = np.array([learning_rate_factor(kind, 0.1, t) for t in np.linspace(0, 1.2, 121)])
        assert rates[0] == 0.0
        assert rates[10] == pytest.approx(1.0)
        assert (np.diff(rates[:11]) > 0).all()
        assert (np.diff(rates[10:101]) < 0).all()
        assert rates[100:] == pytest.approx(0.0)
    assert learning_rate_factor("linear", 0.0, 0.5) == 0.5
    assert learning_rate_factor("cosine", 0.0, 0.25) == pytest.approx((1 + 0.5**0.5) / 2)


@pytest.mark.mpi
@pytest.mark.parametrize("lbfgs", [0, 20])
def test_time_bounds_the_run_and_the_schedule(problem, dataset, lbfgs):
    """With a clock that advances by a tenth of a second at every look, another one on each rank."""
    clock = itertools.count(step=0.2 * (1 + WORLD.rank))
    settings = spon.Training(
        max_seconds=20, epochs=1, batch_size=9, microbatch=9, schedule="linear", lbfgs=lbfgs
    )
    history = spon.Trainer(
        build(problem), dataset[:18], settings, dataset[18:], WORLD, now=lambda: next(clock)
    ).run()
    rows, end = history.rows, 16.0 if lbfgs else 20.0
    assert abs(history.seconds - 20.0) <= 1.0 or lbfgs  # a step and a validation are five looks
    adamw = [row for row in rows if row.learning_rate > 0]
    assert len(adamw) > 10  # epochs do not matter
    assert abs(adamw[-1].seconds - end) <= 1.0
    rates = [row.learning_rate for row in adamw][2:]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.1 * settings.learning_rate < 0.5 * rates[0]
    assert len(rows) - len(adamw) == (2 if lbfgs else 0)


def rising(trainer, monkeypatch):
    """Let the validation errors rise after the first one; the parameters that belong to it."""
    kept, errors = [], trainer._validation.errors

    def found():
        kept.append([p.detach().clone() for p in trainer._parameters])
        return {name: error + len(kept) for name, error in errors().items()}

    monkeypatch.setattr(trainer._validation, "errors", found)
    return kept


@pytest.mark.mpi
def test_the_best_model_is_kept_and_not_the_last(problem, dataset, monkeypatch):
    model = build(problem)
    settings = spon.Training(epochs=3, batch_size=9, microbatch=9)
    trainer = spon.Trainer(model, dataset[:18], settings, dataset[18:], WORLD)
    kept = rising(trainer, monkeypatch)
    history = trainer.run()
    assert len(kept) == 3
    assert history.best.epoch == 1
    assert [row.best for row in history.rows] == [True, False, False]
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), kept[0], strict=True))
    assert not torch.equal(kept[0][0], kept[1][0])


@pytest.mark.mpi
@pytest.mark.parametrize(("loss", "said"), [(float("nan"), "nan"), (1e4, "10000")])
def test_divergence_keeps_the_best_and_says_where(problem, dataset, monkeypatch, loss, said):
    settings = spon.Training(epochs=4, batch_size=9, microbatch=9)
    model, store = build(problem), Memory()
    trainer = spon.Trainer(model, dataset[:18], settings, dataset[18:], WORLD, store)
    kept, gradient = rising(trainer, monkeypatch), trainer._gradient

    def found(batches):
        value = gradient(batches)
        return loss if trainer._position.step == 4 else value

    monkeypatch.setattr(trainer, "_gradient", found)
    message = (
        f"the training loss became {said} in epoch 3, step 5; the best model, of epoch 1, is kept; "
        "try a learning rate below 0.006"
    )
    with pytest.raises(spon.SponError, match=message):
        trainer.run()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), kept[0], strict=True))
    if WORLD.size == 1:  # the same command says the same
        again = build(problem)
        with pytest.raises(spon.SponError, match=message):
            spon.Trainer(again, dataset[:18], settings, dataset[18:], store=store).run()
        assert same(again, model)


@pytest.mark.mpi
def test_a_failure_on_one_rank_ends_all(problem, dataset):
    model = build(problem)
    trainer = spon.Trainer(model, dataset, spon.Training(epochs=1, microbatch=1), comm=WORLD)
    if WORLD.rank == WORLD.size - 1:
        trainer._samples[0]._inputs = -trainer._samples[0]._inputs
    with pytest.raises(spon.SponError, match="the input must be positive"):
        trainer.run()


def test_data_on_several_meshes_take_turns(problem, dataset):
    other = spon.generate(problem.refined(), 12, seed=2)
    d = problem.discretisation
    processor = spon.Multigrid(d, widths=(4, 6), cycles=1, dtype="float64")
    model = spon.OperatorNetwork(d, processor, "log", centre=False)
    trainer = spon.Trainer(model, (dataset[:12], other), spon.Training(epochs=1))
    views = [samples.model for samples in trainer._samples]
    pairs = zip(*(view.parameters() for view in views), strict=True)
    assert all(p is q for p, q in pairs)
    meshes = [batch.mesh for batch in trainer._batches(0)]
    assert sorted(meshes) == [0] * 3 + [1] * 3
    assert meshes != sorted(meshes)
    history = trainer.run()
    assert np.isfinite(history.losses).all()
    with pytest.raises(spon.SponError, match="mean of the training outputs, which belongs to one mesh"):
        spon.train(build(problem), (dataset, other), spon.Training(epochs=1))


def test_a_processor_without_parameters_is_fitted_at_once(problem, dataset):
    class Constant(spon.nn.processors.Processor):
        acts_on = "dofs"

        def __init__(self, discretisation):
            super().__init__()
            self.settings = {}
            self.register_buffer("mean", torch.zeros(discretisation.constraint.Z.shape[1]).double())

        def fit(self, inputs, unknowns):
            self.mean.copy_(unknowns.mean(dim=0) + 1e-3)

        def forward(self, encoded):
            return self.mean.expand(len(encoded.raw), -1)

    d = problem.discretisation
    model, store = spon.OperatorNetwork(d, Constant(d)), Memory()
    history = spon.Trainer(model, dataset[:16], None, dataset[16:], store=store).run()
    assert history.losses == []
    errors = relative_errors(dataset[16:], model.predict(dataset.inputs[16:]), "h1")
    assert history.best.errors["h1"] == pytest.approx(errors.mean(), rel=1e-10)
    assert store.read()["position"]["finished"]


def test_bfloat16_is_near_and_refused_where_it_makes_no_sense(problem, dataset):
    full, half = build(problem, dtype="float32"), build(problem, dtype="float32")
    a = spon.train(full, dataset, spon.Training(epochs=1))
    b = spon.train(half, dataset, spon.Training(epochs=1, precision="bfloat16"))
    assert a.losses != b.losses
    assert a.losses[0] == pytest.approx(b.losses[0], rel=1e-2)
    with pytest.raises(spon.SponError, match=r"'bfloat16' with a Multigrid of torch.float64; allowed: torch"):
        spon.train(build(problem), dataset, spon.Training(epochs=1, precision="bfloat16"))


def test_zero_outputs_have_no_relative_error(problem, dataset):
    from dataclasses import replace

    outputs = dataset.outputs.copy()
    outputs[3] = 0.0
    with pytest.raises(spon.SponError, match="the h1 norm of the output of sample 3 is 0; allowed: > 0"):
        spon.train(build(problem), replace(dataset, outputs=outputs), spon.Training(epochs=1))


def test_what_cannot_be_compiled_is_trained_as_it_is(problem, dataset, monkeypatch, capsys):
    def fail(self):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(spon.Multigrid, "compile", fail)
    plain, tried = build(problem), build(problem)
    spon.train(plain, dataset, spon.Training(epochs=1))
    spon.train(tried, dataset, spon.Training(epochs=1, compile=True))
    assert "not compiled: RuntimeError: no compiler" in capsys.readouterr().err
    assert same(plain, tried)
