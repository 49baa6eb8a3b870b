"""Progress bars on one rank, on the error stream."""

from __future__ import annotations

import sys

from tqdm import tqdm

__all__ = ["progress_bar"]


def progress_bar(total: int, what: str, unit: str, show: bool) -> tqdm:
    """Return a progress bar.

    Args:
        total: number of steps.
        what: what is done.
        unit: what is counted.
        show: False on all ranks but one.
    """
    quiet = not sys.stderr.isatty()  # in a log file, a line now and then
    return tqdm(
        total=total,
        desc=f"{what:>12}",
        unit=unit,
        disable=not show,
        dynamic_ncols=True,
        mininterval=10.0 if quiet else 0.2,
    )
