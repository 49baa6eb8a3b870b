"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.data.dataset import Dataset
from spon.evaluation import Measured
from spon.nn.input_range import InputDistance

__all__ = ["Content", "Estimates"]


@dataclass(frozen=True)
class Estimates:
    """Energy errors as residuals estimate them, and as they are, of samples whose solution is known.

    Args:
        eta: (samples,) residuals in the dual norm; infinite where there is no estimate.
        error: (samples,) energy norms of the errors.
        estimate: (samples,) energy error relative to the prediction, by residuals.
        true: (samples,) energy error relative to the solution.
        factor: of η, which the error is not said to exceed, and the level of that; None without calibration.
    """

    eta: npt.NDArray[np.float64]
    error: npt.NDArray[np.float64]
    estimate: npt.NDArray[np.float64]
    true: npt.NDArray[np.float64]
    factor: tuple[float, float] | None

    def metrics(self) -> dict[str, Any]:
        """Return how good the estimates are.

        Returns:
            `samples` that have an estimate; if there are any, their `effectivity` η / error (`mean`, `min`,
            `max`); with calibration, its `level` and the share of the samples that it has `covered`.
        """
        there = np.isfinite(self.eta) & (self.error > 0.0)
        out: dict[str, Any] = {"samples": int(there.sum())}
        if there.any():
            ratio = self.eta[there] / self.error[there]
            out["effectivity"] = {
                "mean": float(ratio.mean()),
                "min": float(ratio.min()),
                "max": float(ratio.max()),
            }
        if self.factor is not None:
            factor, level = self.factor
            out |= {"covered": float((self.error <= factor * self.eta).mean()), "level": level}
        return out


@dataclass(frozen=True)
class Content:
    """A model, measured.

    Args:
        title: of the page.
        part: which samples were measured: "train", "validation" or "test".
        train: the training samples.
        measured: errors sample by sample.
        metrics: as in `metrics.json`.
        distance: of each sample from the training inputs; None where there are too few of these.
        history: columns of `log.csv`; {} without it.
        settings: text of `config.toml`; empty without it.
        model: name of the processor, its number of parameters, and the like, in words.
        estimates: of the errors by residuals; None where the equations are not known.
    """

    title: str
    part: str
    train: Dataset
    measured: Measured
    metrics: Mapping[str, Any]
    distance: InputDistance | None
    history: Mapping[str, npt.NDArray[np.float64]]
    settings: str
    model: Mapping[str, str]
    estimates: Estimates | None = None
