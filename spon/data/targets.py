"""The file that a generation writes, and what may be there already."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spon.data.dataset import Dataset
from spon.data.manifest import Manifest
from spon.data.parts import Parts
from spon.errors import SponError
from spon.files import output_folder

__all__ = ["check_target", "parts_of", "previous"]


def check_target(output: Path, force: bool) -> None:
    """Check, before any work, that a file can be made; its folder is made where missing.

    Args:
        output: file to make.
        force: whether a file that `spon generate` did not write is replaced.

    Raises:
        SponError: it is a folder or something else, or the folder that it is to be in is not writable.
    """
    if output.is_dir():
        raise SponError(f"cannot write {output}: it is a folder")
    output_folder(output.parent)
    if output.exists() and not force and Manifest.read(output) is None:
        raise SponError(_foreign(output, "it was not made by spon generate"))
    if output.exists() and not os.access(output, os.W_OK):
        raise SponError(f"cannot write {output}: it is write-protected")


def previous(parts: Parts, force: bool) -> Dataset | None:
    """Return the data set that is there and can be continued.

    Args:
        parts: of the generation.
        force: whether anything else is replaced.

    Raises:
        SponError: another data set is there, or a damaged one.
    """
    if not parts.output.exists():
        return None
    reason = parts.manifest.difference(Manifest.read(parts.output))
    if reason is None:
        return Dataset.load(parts.output)
    if force:
        return None
    raise SponError(_foreign(parts.output, reason))


def _foreign(output: Path, reason: str) -> str:
    return f"{output} is another data set: {reason}; choose another name, or replace it with --force"


def parts_of(numbers: npt.NDArray[np.int64], split: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many samples there are in each part.

    Args:
        numbers: (samples,) of the solved ones.
        split: how many numbers belong to each part.

    Returns:
        Empty if a part would be.
    """
    edges = np.cumsum([0, *split])
    counts = np.histogram(numbers, edges - 0.5)[0] if split else np.empty(0, int)
    return tuple(int(n) for n in counts) if counts.all() else ()
