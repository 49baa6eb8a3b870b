"""Progress bars on one rank, on the error stream."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm

__all__ = ["progress_bar"]


class _Lines:
    """A stream where each state of a bar is a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if text.strip():
            self._stream.write(text.strip() + "\n")

    def flush(self) -> None:
        self._stream.flush()


def progress_bar(total: int, what: str, unit: str, show: bool, initial: int = 0) -> tqdm:
    """Return a progress bar; where there is no terminal, a plain line now and then.

    Args:
        total: number of steps.
        what: what is done.
        unit: what is counted.
        show: False on all ranks but one.
        initial: steps that were done before.
    """
    quiet = not sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=f"{what:>12}",
        unit=unit,
        disable=not show,
        file=_Lines(sys.stderr) if quiet else None,
        ncols=100 if quiet else None,
        dynamic_ncols=not quiet,
        mininterval=10.0 if quiet else 0.2,
    )
