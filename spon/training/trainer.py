"""Train operator networks on data sets."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from spon.data.dataset import Dataset
from spon.errors import SponError
from spon.nn.norms import NORMS, GramNorm, relative_error
from spon.nn.operator import OperatorNetwork
from spon.progress import progress_bar
from spon.training.distributed import sum_in_order

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["History", "Training", "train"]


@dataclass(frozen=True)
class Training:
    """Settings of a training run; a fixed number of epochs, so that it can be repeated.

    Args:
        epochs: passes over the training samples.
        batch_size: samples in a step, over all ranks.
        microbatch: samples that a rank takes at a time; a step occupies at most
            batch_size / microbatch ranks.
        learning_rate: largest of a cosine schedule with linear warm-up over the first 5 % of steps.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        norm: relative error that is minimised, "h1" or "l2".
        seed: of the order of the samples.

    Raises:
        SponError: a value that is not positive, or another norm.
    """

    epochs: int = 40
    batch_size: int = 4
    microbatch: int = 2
    learning_rate: float = 6e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    norm: str = "h1"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "microbatch", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise SponError(f"{name} = {getattr(self, name)}; allowed: > 0")
        if self.norm not in NORMS:
            raise SponError(f"norm '{self.norm}'; allowed: {', '.join(NORMS)}")


@dataclass(frozen=True)
class History:
    """What happened: mean loss of each epoch, and wall seconds."""

    losses: list[float]
    seconds: float


def train(
    model: OperatorNetwork,
    dataset: Dataset,
    settings: Training | None = None,
    comm: Comm | None = None,
) -> History:
    """Fit a model; its normalisation comes from these samples. Collective over `comm`.

    Minimises the mean relative error in a finite-element norm. Ranks share the microbatches of each
    batch, whose gradients are summed in a fixed order: on CPUs, with the same number of threads per
    rank, the result is the same to the last bit on any number of ranks. (In another order
    round-off would differ, and training amplifies it.)

    A processor that is fitted in closed form (`Processor.trainable`) is so; there are no epochs then.

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
    settings = settings or Training()
    dataset.discretisation.require(model.fingerprint, "the model")
    begun = time.perf_counter()
    rank, size = (comm.rank, comm.size) if comm is not None else (0, 1)
    device = model.shift.device
    model.fit_normalisation(dataset.inputs, dataset.outputs, dataset.shifts)
    if not model.processor.trainable:
        return History([], time.perf_counter() - begun)
    inputs = torch.as_tensor(dataset.inputs).to(device)
    outputs = torch.as_tensor(dataset.outputs).to(device)
    shifts = None if dataset.shifts is None else torch.as_tensor(dataset.shifts).to(device)
    norm = GramNorm(dataset.discretisation, settings.norm).to(device)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    batches = math.ceil(len(dataset) / settings.batch_size)
    steps = settings.epochs * batches
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: _warm_cosine(s, steps))
    parameters = list(model.parameters())
    sizes = [p.numel() for p in parameters]
    like = torch.cat([p.detach().reshape(-1) for p in parameters] + [parameters[0].detach().new_zeros(1)])
    losses, start = [], time.perf_counter()
    model.train()
    with progress_bar(steps, "training", "step", rank == 0) as bar:
        for order in _orders(len(dataset), settings):
            total = 0.0
            for batch in order.to(device).split(settings.batch_size):
                parts = batch.split(settings.microbatch)
                found = []
                for part in parts[rank::size]:
                    own = None if shifts is None else shifts[part]
                    errors = relative_error(norm, model(inputs[part], own), outputs[part])
                    gradients = torch.autograd.grad(
                        errors.sum() / len(batch), parameters, allow_unused=True, materialize_grads=True
                    )
                    loss = errors.detach().sum()[None].to(like.dtype)
                    found.append(torch.cat([g.reshape(-1) for g in gradients] + [loss]))
                summed = sum_in_order(found, len(parts), comm, like)
                total += summed[-1].item()
                for p, gradient in zip(parameters, summed[:-1].split(sizes), strict=True):
                    p.grad = gradient.view_as(p)
                torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
                optimiser.step()
                schedule.step()
                bar.update()
            losses.append(total / len(dataset))
            if not math.isfinite(losses[-1]):
                raise SponError(
                    f"the training loss became {losses[-1]} in epoch {len(losses)}; try a learning "
                    f"rate below {settings.learning_rate:g}"
                )
            bar.set_postfix_str(f"relative {settings.norm} {losses[-1]:.4f}", refresh=False)
    model.eval()
    return History(losses, time.perf_counter() - start)


def _warm_cosine(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def _orders(samples: int, settings: Training) -> Iterator[torch.Tensor]:
    rng = np.random.default_rng(settings.seed)
    for _ in range(settings.epochs):
        yield torch.as_tensor(rng.permutation(samples))
