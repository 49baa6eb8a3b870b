"""Lists of samples on the command line."""

from __future__ import annotations

import argparse

__all__ = ["positions"]


def positions(text: str) -> list[int]:
    """Return the numbers of "0,5,7".

    Raises:
        argparse.ArgumentTypeError: something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}'; allowed: whole numbers with commas between them"
        ) from None
