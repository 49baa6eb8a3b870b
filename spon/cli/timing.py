"""How long a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["median_seconds"]


def median_seconds(call: Callable[[], object], repetitions: int = 5) -> float:
    """Return the median wall time of a call after one that does not count.

    Args:
        call: ends when its work is done, on a GPU too.
        repetitions: that count.
    """
    call()
    durations = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)
