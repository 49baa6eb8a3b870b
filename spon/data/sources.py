"""Names of files that hold samples, and numpy's files among them."""

from __future__ import annotations

import glob
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import SponError

__all__ = ["NUMPY", "expand", "read_numpy"]

NUMPY = (".npz", ".npy")


def expand(sources: Sequence[str], allowed: Sequence[str]) -> list[Path]:
    """Return the files that names and patterns stand for.

    Args:
        sources: files, or patterns with `*`, whose files come in the order of the numbers in their names.
        allowed: suffixes.

    Raises:
        SponError: no such file, or another suffix.
    """
    out: list[Path] = []
    for source in sources:
        if Path(source).is_file():
            out.append(Path(source))
            continue
        found = sorted(glob.glob(source), key=_natural) if glob.has_magic(source) else []  # noqa: PTH207
        if not found:
            raise SponError(f"no such file: {source}")
        out += map(Path, found)
    wrong = next((path for path in out if path.suffix not in allowed), None)
    if wrong is not None:
        raise SponError(
            f"{wrong}: samples cannot be read from '{wrong.suffix}'; allowed: {', '.join(allowed)}"
        )
    kinds = {path.suffix in NUMPY for path in out}
    if len(kinds) == 2:
        raise SponError("arrays of numpy and fields on meshes in one call; allowed: one or the other")
    return out


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def read_numpy(paths: Sequence[Path], names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Read arrays by name.

    Args:
        paths: `.npz` files with arrays by name, `.npy` files that are named as the array that they hold.
        names: of the arrays.

    Raises:
        SponError: unreadable content, pickled objects, a name that is not there or that is there twice.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    known: list[str] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                content = np.load(file, allow_pickle=False)
                listed = content.files if path.suffix == ".npz" else [path.stem]
                for name in listed:
                    if name in known:
                        raise SponError(
                            f"{path}: array '{name}' is in another file too; allowed: one of them"
                        )
                    if name in names:  # what nobody asked for stays unread
                        found[name] = content[name] if path.suffix == ".npz" else content
                    known.append(name)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
            reason = " ".join(str(error).split())
            if "allow_pickle" in reason or "pickled" in reason:
                reason = "it holds pickled objects; allowed: arrays of real numbers"
            raise SponError(f"{path}: not readable by numpy: {reason}") from error
    missing = next((name for name in names if name not in found), None)
    if missing is not None:
        there = ", ".join(f"'{name}'" for name in known)
        raise SponError(f"no array '{missing}' in {', '.join(map(str, paths))}; there are: {there or 'none'}")
    return found
