"""Train operator networks on data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from spon.data.dataset import Dataset
from spon.errors import SponError, agree
from spon.nn.operator import OperatorNetwork
from spon.training.average import MovingAverage
from spon.training.batches import Batch, epoch_batches, large_batch
from spon.training.compilation import compiled
from spon.training.display import Display
from spon.training.distributed import Ranks, as_ranks
from spon.training.gradients import Gradients
from spon.training.history import Best, History, Position, Row
from spon.training.interruption import Interrupted, Interruption
from spon.training.physics_loss import PhysicsLoss
from spon.training.samples import Samples, on_mesh
from spon.training.schedule import Stopwatch, learning_rate_factor
from spon.training.settings import Training
from spon.training.validation import Validation

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["History", "Store", "Trainer", "Training", "train"]

STATE_FORMAT = 1
_DIVERGED = 1e3  # times the first loss, or a relative error of one
_ITERATIONS = 10  # of L-BFGS between two looks at clock and signals
_LBFGS_SHARE = 0.2  # of the time, where the run ends by time

Data = Dataset | Sequence[Dataset]


class Store(Protocol):
    """Where a run is kept; called on the first rank alone, `read` on all."""

    def read(self) -> dict[str, Any] | None:
        """Return the state that was written last, None at the start."""

    def write(self, state: dict[str, Any], model: OperatorNetwork) -> None:
        """Keep a state, and its best model."""


class Trainer:
    """A training run: AdamW with warm-up and decay, then L-BFGS if asked for; the best model is kept.

    Minimises the mean relative error in a finite-element norm, or what the equations of the data say of
    predictions (`Training.physics_loss`), or a mean of both. Ranks share the microbatches of each
    batch, whose gradients are summed in a fixed order: on CPUs, with the same number of threads per
    rank, the result is the same to the last bit on any number of ranks. (In another order
    round-off would differ, and training amplifies it.) What is random depends on seed, epoch and
    microbatch alone, so that a run of fixed epochs that was interrupted and goes on from its `store`
    also ends with the same bits.

    Args:
        model: trained in place, on its device; the same on every rank. Its normalisation comes from
            the training samples on its own mesh; without labels, from loose solves.
        data: training samples, the same on every rank; several data sets on meshes of their own
            (for networks that cross meshes) take turns by batches.
        settings: default `Training()`.
        validation: samples that choose the best model; by default the last one is kept.
        comm: MPI communicator or `Ranks`; None: this process alone.
        store: where the run is kept.
        now: clock in place of that of the settings.

    Raises:
        SponError: no data set on the mesh of the model, a norm that the discretisation has
            not, an output of norm zero, a loss by equations that the data have not, a precision that the
            processor cannot have. On every rank.
    """

    def __init__(
        self,
        model: OperatorNetwork,
        data: Data,
        settings: Training | None = None,
        validation: Data = (),
        comm: Comm | Ranks | None = None,
        store: Store | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.model, self.settings = model, settings or Training()
        self.ranks: Ranks = as_ranks(comm)
        self.history = History()
        self._store, self._now = store, now
        self._position = Position()
        self._device = model.shift.device
        norms = ("l2", "h1", *(["energy"] if self.settings.loss == "energy" else []))
        data, validation = _sequence(data), _sequence(validation)
        with agree(self.ranks):
            physics, checked = ([self._physics_loss(d) for d in sets] for sets in (data, validation))
            labels = self.settings.label_weight > 0
            pairs = list(zip(data, physics, strict=True))
            outputs = [d.outputs if p is None or labels else p.surrogates.cpu().numpy() for d, p in pairs]
            _fit_normalisation(model, data, outputs)
            norm = (self.settings.loss,) if labels else ()
            self._fingerprints = [d.discretisation.fingerprint for d in (*data, *validation)]
            self._samples = [Samples(on_mesh(model, d), d, norm, p) for d, p in pairs]
            checks = [
                Samples(on_mesh(model, d), d, norms, p) for d, p in zip(validation, checked, strict=True)
            ]
            self._validation = Validation(checks, self.settings, self.ranks, self._device)
            p = self._parameters = [p for p in model.parameters() if p.requires_grad]
            self._gradients = Gradients(self._samples, p, self.settings, self.ranks)
            if p and self.settings.precision == "bfloat16":
                self._gradients.require_bfloat16()
        self._average = MovingAverage(p, self.settings.ema)
        self._adamw = torch.optim.AdamW(
            p or [torch.zeros(1)], lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        self._lbfgs: Any = None
        self._validation_seconds = self._group_seconds = 0.0

    def _physics_loss(self, data: Dataset) -> PhysicsLoss | None:
        name = self.settings.physics_loss
        return None if name == "none" else PhysicsLoss(name, data, self._device)

    def run(self) -> History:
        """Train to the end, from where the store is; the model is then the best one. Collective.

        Returns:
            Losses, errors and time.

        Raises:
            SponError: the run diverged (the model is the best one so far), or its state does not fit;
                the failure of any rank.
            Interrupted: a signal asked for it, where there is a store; the state is in it.
        """
        devices = [self._device] if self._device.type == "cuda" else []
        interruption = Interruption() if self._store is not None else nullcontext()
        with torch.random.fork_rng(devices), interruption as self._interruption:
            self._resume()
            if not (self._position.finished or self._position.failure):
                self._train()
            self._restore_best()
        if self._position.failure:
            raise SponError(self._position.failure)
        self.model.eval()
        self.history.seconds = self._position.seconds
        return self.history

    def _train(self) -> None:
        s, p = self.settings, self._position
        timed = s.max_seconds is not None
        steps = s.epochs * len(self._batches(0))
        self._watch = Stopwatch(s.clock, p.seconds, self._now)
        self._saved = p.seconds
        self._display = Display(
            self.ranks.rank == 0,
            s.max_seconds or steps,
            timed,
            bool(self._validation),
            p.seconds if timed else p.step,
        )
        self._steps = steps
        try:
            with self._compiled():
                if self._parameters:
                    self._descend()
                    self._polish()
                else:  # fitted in closed form
                    self._validate(None)
            p.finished = True
        except _DivergedError as error:
            p.failure = str(error)
        finally:
            self._display.close()
        self._save()

    def _compiled(self) -> Any:
        if not (self.settings.compile and self._parameters):
            return nullcontext()
        models = {id(s.model): s.model for s in (*self._samples, *self._validation.samples)}.values()
        processors = [model.processor for model in models]
        return compiled(processors, self._gradients.try_out, self.ranks, self._display.say)

    # ---------------------------------------------------------------- AdamW --

    def _descend(self) -> None:
        """AdamW until epochs or time are over."""
        s, p = self.settings, self._position
        while not p.polishing:
            batches = self._batches(p.epoch)
            while p.batch < len(batches) and self._look() < 1.0:
                self._step(batches[p.batch])
            complete = p.batch == len(batches)
            p.epoch, p.batch = p.epoch + complete, 0
            over = self._fraction() >= 1.0
            if complete:
                self.history.losses.append(p.total / p.count)
            if over or (complete and p.epoch % s.validate_every == 0):
                self._validate(p.total / p.count if p.count else None)
            if complete:
                p.total, p.count = 0.0, 0
            p.polishing = over
        self._average.apply()

    def _step(self, batch: Batch) -> None:
        s, p = self.settings, self._position
        rate = s.learning_rate * learning_rate_factor(s.schedule, s.warmup, self._fraction(0.5))
        for group in self._adamw.param_groups:
            group["lr"] = rate
        loss = self._gradient([batch])
        torch.nn.utils.clip_grad_norm_(self._parameters, s.clip)
        self._adamw.step()
        self._average.update()
        p.step, p.batch = p.step + 1, p.batch + 1
        p.total, p.count = p.total + loss * len(batch.which), p.count + len(batch.which)
        p.first = loss if p.first is None else p.first
        if not loss <= _DIVERGED * max(p.first, 1.0):
            raise self._diverged(loss)
        self._display.reach(p.seconds if s.max_seconds else p.step, loss)

    def _fraction(self, ahead: float = 0.0) -> float:
        """Share of AdamW's part of the run that is done, in the end 1.

        Args:
            ahead: steps after the present one, where steps count.
        """
        s, p = self.settings, self._position
        if s.max_seconds is None:
            return (p.step + ahead) / self._steps
        time = s.max_seconds * (1.0 - _LBFGS_SHARE * (s.lbfgs > 0)) - self._validation_seconds
        return p.seconds / time if time > 0 else 1.0

    def _batches(self, epoch: int) -> list[Batch]:
        return epoch_batches([len(s) for s in self._samples], self.settings, epoch, self._device)

    def _gradient(self, batches: list[Batch]) -> float:
        return self._gradients(batches, self._position.step)

    # -------------------------------------------------------------- L-BFGS --

    def _polish(self) -> None:
        """L-BFGS until iterations, time or progress are over."""
        s, p = self.settings, self._position
        groups = -(-s.lbfgs // _ITERATIONS)
        progress = True
        while p.groups < groups and progress:
            self._look()
            if s.max_seconds and p.seconds + self._group_seconds + self._validation_seconds > s.max_seconds:
                break
            before = p.seconds
            begun, loss = self._lbfgs_group(min(_ITERATIONS, s.lbfgs - p.groups * _ITERATIONS))
            p.groups += 1
            self._tick()
            self._group_seconds = p.seconds - before
            self._average = MovingAverage(self._parameters, 0.0)
            if not math.isfinite(loss):
                raise self._diverged(loss)
            progress = s.lbfgs_samples is not None or loss < begun
            self.history.losses.append(loss)
            self._validate(loss)

    def _lbfgs_group(self, iterations: int) -> tuple[float, float]:
        """Some iterations; returns the loss before and after them."""
        s = self.settings
        if self._lbfgs is None or s.lbfgs_samples is not None:  # other samples have another curvature
            self._lbfgs = self._new_lbfgs()
        self._lbfgs.param_groups[0]["max_iter"] = iterations
        sizes = [len(samples) for samples in self._samples]
        batches = large_batch(sizes, s, self._position.groups, self._device)
        begun = self._lbfgs.step(lambda: self._gradient(batches))
        return begun, self._gradient(batches)

    def _new_lbfgs(self) -> Any:
        return torch.optim.LBFGS(
            self._parameters,
            history_size=20,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            max_eval=4 * _ITERATIONS,
            line_search_fn="strong_wolfe",
        )

    # ----------------------------------------------------------- validation --

    def _validate(self, loss: float | None) -> None:
        """Measure, keep the best, and add a line to the log."""
        p, start = self._position, self._watch.seconds
        errors: dict[str, float] = {}
        best = False
        if self._validation:
            with self._average.applied():
                errors = self._validation.errors()
                chosen = self._validation.loss(errors)
                best = self.history.best is None or chosen < self.history.best.error
                if best:
                    state = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
                    self.history.best = Best(chosen, p.epoch, errors, state)
        self._tick()
        self._validation_seconds = self.ranks.allgather(self._watch.seconds - start)[0]
        rate = self._adamw.param_groups[0]["lr"] if self._parameters and not p.polishing else 0.0
        row = Row(p.epoch, p.step, p.seconds, rate, loss, errors.get("l2"), errors.get("h1"), best)
        self.history.rows.append(row)
        self._display.validated(row, self._fraction() if self._parameters else 1.0)

    def _restore_best(self) -> None:
        if self.history.best is not None:
            self.model.load_state_dict(self.history.best.state)

    def _diverged(self, loss: float) -> _DivergedError:
        p, best = self._position, self.history.best
        kept = ""
        if best is not None:
            kept = f"the best model, of epoch {best.epoch}, is kept; "
        return _DivergedError(
            f"the training loss became {loss:g} in epoch {p.epoch + 1}, step {p.step}; {kept}try a learning "
            f"rate below {self.settings.learning_rate:g}"
        )

    # ------------------------------------------------------ time and state --

    def _tick(self) -> int | None:
        """Take the time of the first rank, the same for all; returns the signal that came to any."""
        signal = self._interruption.signal if self._interruption is not None else None
        found = self.ranks.allgather((self._watch.seconds, signal))
        self._position.seconds = found[0][0]
        return next((signal for _, signal in found if signal is not None), None)

    def _look(self) -> float:
        """Look at clock and signals, save if it is time; returns the share of the run that is done."""
        signal = self._tick()
        if signal is not None or self._position.seconds - self._saved >= self.settings.checkpoint_seconds:
            self._save()
        if signal is not None:
            raise Interrupted(signal, self._position.epoch, self._position.step)
        return self._fraction()

    def state_dict(self) -> dict[str, Any]:
        """Return all that the run needs to go on, as plain values and tensors."""
        return {
            "format": STATE_FORMAT,
            "fingerprints": self._fingerprints,
            "settings": asdict(self.settings),
            "position": asdict(self._position),
            "model": self.model.state_dict(),
            "average": self._average.state_dict(),
            "adamw": self._adamw.state_dict(),
            "lbfgs": None if self._lbfgs is None else self._lbfgs.state_dict(),
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back.

        Raises:
            SponError: another format, other data or settings, or parts that are missing or do not fit.
        """
        if state.get("format") != STATE_FORMAT:
            raise SponError(f"checkpoint format {state.get('format')}; allowed: {STATE_FORMAT}")
        if state["fingerprints"] != self._fingerprints:
            raise SponError("the checkpoint belongs to other data: the fingerprints differ")
        for name, value in asdict(self.settings).items():
            if state["settings"].get(name) != value:
                found = state["settings"].get(name)
                raise SponError(
                    f"{name} = {value}, but {found} in the checkpoint; allowed: the same settings"
                )
        try:
            self.model.load_state_dict(state["model"])
            self._average.load_state_dict(state["average"])
            self._adamw.load_state_dict(state["adamw"])
            if state["lbfgs"] is not None:
                self._lbfgs = self._new_lbfgs()
                self._lbfgs.load_state_dict(state["lbfgs"])
            self.history.load_state_dict(state["history"])
            self._position = replace(Position(), **state["position"])
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise SponError(f"the checkpoint does not fit this run: {first}") from error

    def _resume(self) -> None:
        if self._store is None:
            return
        with agree(self.ranks):
            state = self._store.read()
            if state is not None:
                self.load_state_dict(state)

    def _save(self) -> None:
        if self._store is None:
            return
        with agree(self.ranks):
            if self.ranks.rank == 0:
                self._store.write(self.state_dict(), self.model)
        self._saved = self._position.seconds


class _DivergedError(Exception):
    pass


def train(
    model: OperatorNetwork,
    dataset: Data,
    settings: Training | None = None,
    comm: Comm | Ranks | None = None,
) -> History:
    """Fit a model; its normalisation comes from these samples. Collective over `comm`.

    The short form of `Trainer`, without validation and files.

    A processor that is fitted in closed form (`Processor.trainable`) is so; there are no epochs then. Which
    processor to take: `default_processor(data)`, as the command line does.

    Args:
        model: trained in place, on its device; the same on every rank.
        dataset: training samples, the same on every rank.
        settings: default `Training()`.
        comm: the ranks; None: this process alone.

    Returns:
        Losses and time.

    Raises:
        SponError: the data set belongs to another discretisation; the loss is not finite.
    """
    return Trainer(model, dataset, settings, comm=comm).run()


def _sequence(data: Data) -> tuple[Dataset, ...]:
    return (data,) if isinstance(data, Dataset) else tuple(data)


def _fit_normalisation(
    model: OperatorNetwork, data: tuple[Dataset, ...], outputs: Sequence[npt.NDArray[np.float64]]
) -> None:
    """From the data on the model's own mesh, which has the DoFs of its mean; `outputs` stand for theirs."""
    own, outs = [], []
    for d, out in zip(data, outputs, strict=True):
        if d.discretisation.fingerprint == model.fingerprint:
            own.append(d)
            outs.append(out)
    if not own:
        if not data:
            raise SponError("no training data; allowed: at least one data set")
        data[0].discretisation.require(model.fingerprint, "the model")
    inputs = np.concatenate([d.inputs for d in own])
    shifts = None
    if own[0].shifts is not None:
        shifts = np.concatenate([d.shifts for d in own if d.shifts is not None])
    model.fit_normalisation(inputs, np.concatenate(outs), shifts)
