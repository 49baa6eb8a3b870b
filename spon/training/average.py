"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["MovingAverage"]


class MovingAverage:
    """a ← d a + (1 − d) p after every step, with d = min(decay, (1 + n)/(10 + n)) in step n.

    The smaller d of the first steps forgets the initial weights (as in TensorFlow's
    ExponentialMovingAverage with `num_updates`).

    Args:
        parameters: p.
        decay: 0: the average is p itself.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self._average = [p.detach().clone() for p in parameters]
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Follow the parameters after a step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        for average, p in zip(self._average, self._parameters, strict=True):
            average.lerp_(p, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the parameters be the average for a while."""
        kept = [p.detach().clone() for p in self._parameters]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(self._parameters, kept, strict=True):
                    p.copy_(value)

    @torch.no_grad()
    def apply(self) -> None:
        """Replace the parameters by the average."""
        for p, average in zip(self._parameters, self._average, strict=True):
            p.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of steps."""
        return {"average": self._average, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        for average, value in zip(self._average, state["average"], strict=True):
            average.copy_(value)
        self._steps = state["steps"]
