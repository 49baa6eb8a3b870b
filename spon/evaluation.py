"""Errors in finite-element norms, and what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from spon.data.dataset import Dataset
from spon.nn.norms import GramNorm, relative_error

__all__ = ["Predictor", "boundary_error", "evaluate", "relative_errors", "summary"]

Array = npt.NDArray[np.float64]


class Predictor(Protocol):
    """Anything that maps inputs (samples, DoFs of all inputs) to outputs (samples, DoFs)."""

    def predict(self, inputs: Array, *, shift: Array | None = None) -> Array:
        """Map a batch, with u_g (samples, DoFs) where the samples have boundary data of their own."""


def summary(values: Array) -> dict[str, float]:
    """Return mean, median and max of one value per sample."""
    return {k: float(f(values)) for k, f in (("mean", np.mean), ("median", np.median), ("max", np.max))}


def relative_errors(dataset: Dataset, predicted: Array, norm: str) -> Array:
    """Return ‖predicted − output‖ / ‖output‖ for every sample, (samples,).

    Args:
        dataset: reference outputs.
        predicted: (samples, DoFs).
        norm: "l2" or "h1".
    """
    gram = GramNorm(dataset.discretisation, norm)
    pair = torch.as_tensor(predicted), torch.as_tensor(dataset.outputs)
    out: Array = relative_error(gram, *pair).numpy()
    return out


def boundary_error(dataset: Dataset, predicted: Array) -> Array:
    """Return the largest deviation from the prescribed boundary values, (samples,)."""
    constraint = dataset.discretisation.constraint
    fixed = constraint.fixed
    if not fixed.any():
        return np.zeros(len(predicted))
    shifts = constraint.shift[None] if dataset.shifts is None else dataset.shifts
    out: Array = np.abs(predicted[:, fixed] - shifts[:, fixed]).max(axis=1)
    return out


def evaluate(
    model: Predictor, test: Dataset, baselines: Mapping[str, Predictor] | None = None
) -> dict[str, Any]:
    """Measure a model on test samples.

    Args:
        model: an `OperatorNetwork`, or anything with `predict`.
        test: samples that it was not trained on.
        baselines: other surrogates, by name.

    Returns:
        `relative_l2`, `relative_h1` and `boundary_error`, each with `mean`, `median` and `max` over
        the samples, and `baselines` with the same two errors for each.
    """
    predicted = model.predict(test.inputs, shift=test.shifts)
    result: dict[str, Any] = {
        f"relative_{n}": summary(relative_errors(test, predicted, n)) for n in ("l2", "h1")
    }
    result["boundary_error"] = summary(boundary_error(test, predicted))
    result["baselines"] = {}
    for name, baseline in (baselines or {}).items():
        guess = baseline.predict(test.inputs, shift=test.shifts)
        result["baselines"][name] = {
            f"relative_{n}": summary(relative_errors(test, guess, n)) for n in ("l2", "h1")
        }
    return result
