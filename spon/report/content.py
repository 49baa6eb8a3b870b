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

__all__ = ["Content"]


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
