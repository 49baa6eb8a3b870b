"""Errors in finite-element norms, and what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from spon.data.dataset import Dataset
from spon.discretisation import Discretisation
from spon.nn.norms import GramNorm, relative_error

__all__ = [
    "FLOORS",
    "Measured",
    "Predictor",
    "boundary_error",
    "evaluate",
    "measure",
    "norms",
    "relative_errors",
    "summary",
]

Array = npt.NDArray[np.float64]

# statistics of a data set: relative errors of the best approximation and of the finite-element solution, both
# against a reference solution on a finer mesh
FLOORS = ("fe_floor_l2", "fe_floor_h1", "fe_solve_l2", "fe_solve_h1")

_ZERO_DIVERGENCE = 1e-8  # of reference solutions, relative: below, they are divergence-free


class Predictor(Protocol):
    """Anything that maps inputs (samples, DoFs of all inputs) to outputs (samples, DoFs)."""

    def predict(self, inputs: Array, *, shift: Array | None = None) -> Array:
        """Map a batch, with u_g (samples, DoFs) where the samples have boundary data of their own."""


@dataclass(frozen=True)
class Measured:
    """Errors of a model, one value per sample.

    Args:
        dataset: the samples.
        predicted: (samples, DoFs).
        errors: norm → (samples,) relative errors.
        exact: what is exact by construction → (samples,) deviation; see `evaluate`.
        baselines: name → norm → (samples,) relative errors.
    """

    dataset: Dataset
    predicted: Array
    errors: Mapping[str, Array]
    exact: Mapping[str, Array]
    baselines: Mapping[str, Mapping[str, Array]]

    @property
    def floors(self) -> dict[str, Array]:
        """Those of `FLOORS` that the data set has for all samples, (samples,) each."""
        found = {k: np.asarray(self.dataset.statistics[k]) for k in FLOORS if k in self.dataset.statistics}
        return {k: values for k, values in found.items() if np.isfinite(values).all()}

    def ranked(self) -> dict[str, int]:
        """Return the positions of the samples with the least, the median and the largest L2 error."""
        order = np.argsort(self.errors["l2"], kind="stable")
        return {
            "best": int(order[0]),
            "median": int(order[(len(order) - 1) // 2]),
            "worst": int(order[-1]),
        }

    def metrics(self) -> dict[str, Any]:
        """Return mean, median and max of everything; see `evaluate`."""
        result: dict[str, Any] = {f"relative_{n}": summary(e) for n, e in self.errors.items()}
        result |= {name: summary(values) for name, values in self.exact.items()}
        result |= {name: summary(values) for name, values in self.floors.items()}
        result["baselines"] = {
            name: {f"relative_{n}": summary(e) for n, e in errors.items()}
            for name, errors in self.baselines.items()
        }
        return result


def summary(values: Array) -> dict[str, float]:
    """Return mean, median and max of one value per sample."""
    return {k: float(f(values)) for k, f in (("mean", np.mean), ("median", np.median), ("max", np.max))}


def norms(discretisation: Discretisation) -> tuple[str, ...]:
    """Return the norms that errors are measured in: "l2", "h1", and "energy" where there is one."""
    return ("l2", "h1") if discretisation.output.energy is None else ("l2", "h1", "energy")


def relative_errors(dataset: Dataset, predicted: Array, norm: str) -> Array:
    """Return ‖predicted − output‖ / ‖output‖ for every sample, (samples,).

    Args:
        dataset: reference outputs.
        predicted: (samples, DoFs).
        norm: "l2", "h1", or "energy" where the discretisation has one.
    """
    gram = GramNorm(dataset.discretisation, norm)
    pair = torch.as_tensor(predicted), torch.as_tensor(dataset.outputs)
    out: Array = relative_error(gram, *pair).numpy()
    return out


def boundary_error(dataset: Dataset, predicted: Array) -> Array:
    """Return the largest deviation from the prescribed boundary values, (samples,)."""
    fixed = dataset.discretisation.constraint.fixed
    if not fixed.any():
        return np.zeros(len(predicted))
    out: Array = np.abs((predicted - _shifts(dataset))[:, fixed]).max(axis=1)
    return out


def _shifts(dataset: Dataset) -> Array:
    constraint = dataset.discretisation.constraint
    return constraint.shift[None] if dataset.shifts is None else dataset.shifts


def _exact(dataset: Dataset, predicted: Array) -> dict[str, Array]:
    d = dataset.discretisation
    out = {"boundary_error": boundary_error(dataset, predicted)}
    if not d.constraint.prescribes:
        homogeneous = d.constraint.with_shift(np.zeros(d.dofs))
        out["constraint_violation"] = homogeneous.violation(predicted - _shifts(dataset))
    if d.zero_mean is not None:
        out["mean_value"] = np.abs(d.zero_mean.mean(predicted))
    reference = _divergence(d, dataset.outputs)
    if reference is not None and reference.max() < _ZERO_DIVERGENCE:
        found = _divergence(d, predicted)
        assert found is not None
        out["divergence"] = found
    return out


def _divergence(d: Discretisation, values: Array) -> Array | None:
    """Return max |K u| / max |K| |u| with K the Gram matrix of divergences; None without an H(div) member."""
    found = [np.zeros(len(values))]
    names = d.output.element.split(" + ")
    members = d.output.members if len(names) > 1 else ((0, d.dofs),)
    for name, (first, count) in zip(names, members, strict=True):
        if name.startswith(("RT", "BDM")):
            K = d.output.stiffness[first : first + count][:, first : first + count]
            u = values[:, first : first + count].T
            size = (abs(K) @ np.abs(u)).max(axis=0, initial=np.finfo(float).tiny)
            found.append(np.abs(K @ u).max(axis=0, initial=0.0) / size)
    return None if len(found) == 1 else np.asarray(np.max(found, axis=0))


def measure(model: Predictor, test: Dataset, baselines: Mapping[str, Predictor] | None = None) -> Measured:
    """Measure a model on test samples, sample by sample.

    Args:
        model: an `OperatorNetwork`, or anything with `predict`.
        test: samples that it was not trained on.
        baselines: other surrogates, by name.
    """
    used = norms(test.discretisation)

    def errors(predicted: Array) -> dict[str, Array]:
        return {norm: relative_errors(test, predicted, norm) for norm in used}

    predicted = model.predict(test.inputs, shift=test.shifts)
    others = {
        name: errors(one.predict(test.inputs, shift=test.shifts)) for name, one in (baselines or {}).items()
    }
    return Measured(test, predicted, errors(predicted), _exact(test, predicted), others)


def evaluate(
    model: Predictor, test: Dataset, baselines: Mapping[str, Predictor] | None = None
) -> dict[str, Any]:
    """Measure a model on test samples.

    Args:
        model: an `OperatorNetwork`, or anything with `predict`.
        test: samples that it was not trained on.
        baselines: other surrogates, by name.

    Returns:
        `relative_l2`, `relative_h1` and, where the discretisation has an energy, `relative_energy`, each
        with `mean`, `median` and `max` over the samples; and in the same way the deviations from what
        is exact by construction: `boundary_error`, the largest difference to a prescribed value;
        `constraint_violation`, the largest |u − (Z û + u_g)| with the nearest û, where there are ties, such
        as periodic ones, or potentials; `mean_value`, where it is to be zero; `divergence`, where it is zero
        in the data: max |K u| / max |K| |u| with the Gram matrix K of divergences. Of `FLOORS` those that
        are in the statistics of the data set. `baselines` has the relative errors of each.
    """
    return measure(model, test, baselines).metrics()
