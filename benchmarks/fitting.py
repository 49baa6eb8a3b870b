"""Train and measure one operator network, a peer's or one of spon, within a budget of processor time."""

import math
import time

import numpy as np
import torch

from spon.evaluation import boundary_error, relative_errors
from spon.nn.norms import GramNorm, relative_error

POINTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
MEASURED = 40  # samples of each error on the way
WARM_UP = 0.05


class Stopwatch:
    """Processor seconds of this process, but for pauses."""

    def __init__(self):
        self.before, self.start = 0.0, time.process_time()

    def seconds(self):
        """Return what has run so far."""
        return self.before + time.process_time() - self.start

    def pause(self):
        """Stop."""
        self.before = self.seconds()

    def resume(self):
        """Go on after a pause."""
        self.start = time.process_time()


def factor(fraction):
    """Return the learning rate at a fraction of the budget over its maximum: linear warm-up, then cosine."""
    if fraction < WARM_UP:
        return max(fraction, 1e-3) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (fraction - WARM_UP) / (1 - WARM_UP)))


def mean_error(model, dataset, norm="l2"):
    predicted = model.predict(dataset.inputs, shift=dataset.shifts)
    return float(relative_errors(dataset, predicted, norm).mean())


def fit(model, parts, settings, learning_rate, seed, seconds, points=POINTS):
    """Train with AdamW; the weights that are best on the validation samples at one of the points stay.

    The clock runs from the normalisation (with all that a model computes of the training samples in closed
    form) to the last step, and stands while errors are measured.

    Args:
        model: an `OperatorNetwork`, or a peer with the same methods.
        parts: training, validation and test samples.
        settings: with `batch_size`, `weight_decay`, `clip`, `norm`.
        learning_rate: maximum.
        seed: of the order of the samples.
        seconds: of processor time.
        points: fractions of the budget at which errors are measured, the last one 1.

    Returns:
        Dictionary of `trained` (seconds), `steps`, `validation` (error of the weights that stay) and `curve`:
        seconds, steps, validation and test error in L2 for each point.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    train, validation, test = parts
    norm, rng = GramNorm(train.discretisation, settings.norm), np.random.default_rng(seed)
    inputs, outputs = torch.as_tensor(train.inputs), torch.as_tensor(train.outputs)
    shifts = None if train.shifts is None else torch.as_tensor(train.shifts)
    parameters = list(model.parameters())
    curve, best, kept, steps, order = [], math.inf, parameters, 0, np.empty(0, dtype=int)
    watch = Stopwatch()
    model.fit_normalisation(train.inputs, train.outputs, train.shifts)
    if parameters:
        optimiser = torch.optim.AdamW(
            parameters, lr=learning_rate, weight_decay=settings.weight_decay, fused=False
        )
    for point in points if parameters else (1.0,):
        model.train()
        while parameters and watch.seconds() < point * seconds:
            if len(order) < settings.batch_size:
                order = np.concatenate([order, rng.permutation(len(train))])
            batch, order = torch.as_tensor(order[: settings.batch_size]), order[settings.batch_size :]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * factor(min(1.0, watch.seconds() / seconds))
            predicted = model(inputs[batch], None if shifts is None else shifts[batch])
            loss = relative_error(norm, predicted, outputs[batch]).mean()
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss became {loss.item()} in step {steps + 1}")
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
            optimiser.step()
            steps += 1
        watch.pause()
        model.eval()
        found = mean_error(model, validation[:MEASURED]), mean_error(model, test[:MEASURED])
        curve.append([watch.before, steps, *found])
        if found[0] < best:
            best, kept = found[0], [p.detach().clone() for p in parameters]
        watch.resume()
    with torch.no_grad():
        for p, values in zip(parameters, kept, strict=True):
            p.copy_(values)
    return {"trained": watch.before, "steps": steps, "validation": best, "curve": curve}


def measure(model, test):
    """Return errors on the test samples, number of parameters and processor milliseconds of a prediction."""
    predicted = model.predict(test.inputs, shift=test.shifts)
    return {
        "l2": float(relative_errors(test, predicted, "l2").mean()),
        "h1": float(relative_errors(test, predicted, "h1").mean()),
        "boundary": float(boundary_error(test, predicted).max()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch_ms": milliseconds(model, test[:16], 5),
        "single_ms": milliseconds(model, test[:1], 9),
    }


def milliseconds(model, dataset, repeats):
    """Return the median over repetitions, for each sample, after a first call."""
    durations = []
    shifts = dataset.shifts
    for _ in range(repeats + 1):
        start = time.process_time()
        model.predict(dataset.inputs, shift=shifts)
        durations.append(time.process_time() - start)
    return 1e3 * float(np.median(durations[1:])) / len(dataset)
