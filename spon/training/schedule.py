"""Time and learning rate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["Stopwatch", "learning_rate_factor"]


class Stopwatch:
    """Seconds of a run, those before an interruption included.

    Args:
        clock: "wall" or "process".
        before: seconds that were measured before.
        now: clock in its place.
    """

    def __init__(self, clock: str, before: float = 0.0, now: Callable[[], float] | None = None) -> None:
        self._now = now or {"wall": time.perf_counter, "process": time.process_time}[clock]
        self._start = self._now() - before

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._now() - self._start


def learning_rate_factor(schedule: str, warmup: float, fraction: float) -> float:
    """Return the learning rate relative to the largest one.

    Args:
        schedule: "cosine" or "linear" decay to zero.
        warmup: share of the run in which it rises linearly from zero.
        fraction: of the run that is done; above 1 it stays at zero.
    """
    if fraction < warmup:
        return fraction / warmup
    rest = min(1.0, (fraction - warmup) / (1.0 - warmup))
    return 1.0 - rest if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * rest))
