"""Progress of a training run: a bar on a terminal, else a line for each validation."""

from __future__ import annotations

import sys

from spon.progress import progress_bar
from spon.training.history import Row

__all__ = ["Display"]


class Display:
    """Speaks on one rank alone.

    Args:
        show: whether this rank does.
        total: steps, or seconds where `timed`.
        timed: whether the run ends by time.
        validated: whether there are validations.
        initial: steps or seconds that were done before.
    """

    def __init__(self, show: bool, total: float, timed: bool, validated: bool, initial: float) -> None:
        self._lines = show and validated and not sys.stderr.isatty()
        self._bar = progress_bar(
            max(1, int(total)), "training", "s" if timed else "step", show and not self._lines, int(initial)
        )
        self._validation = ""

    def reach(self, done: float, loss: float) -> None:
        """Show steps or seconds that are done, and the present loss."""
        self._bar.set_postfix_str(f"loss {loss:.4f}{self._validation}", refresh=False)
        self._bar.update(min(int(done), self._bar.total) - self._bar.n)

    def validated(self, row: Row, done: float) -> None:
        """Show a validation.

        Args:
            row: of the log.
            done: share of the run.
        """
        if row.validation_h1 is None or row.validation_l2 is None:
            return
        self._validation = f", validation h1 {row.validation_h1:.4f}"
        if self._lines:
            loss = "" if row.loss is None else f"loss {row.loss:.5f}, "
            left = f", {row.seconds * (1 / done - 1):.0f} s left" if 0 < done < 1 else ""
            print(
                f"epoch {row.epoch}, step {row.step}, {row.seconds:.1f} s: {loss}validation l2 "
                f"{row.validation_l2:.5f}, h1 {row.validation_h1:.5f}{' (best)' if row.best else ''}{left}",
                file=sys.stderr,
                flush=True,
            )

    def say(self, text: str) -> None:
        """Show a line."""
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leave the terminal in order."""
        self._bar.close()
