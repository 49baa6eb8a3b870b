"""Files appear complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spon.errors import SponError

__all__ = ["output_folder", "replacing"]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the same folder; rename it to `path` on success, else remove it.

    Args:
        path: file or folder to make or replace.

    Raises:
        SponError: the folder does not exist, is not writable, or its disk is full.
    """
    path = Path(path)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise SponError(f"cannot write {path}: {error.strerror}") from error
    temporary = folder / path.name
    try:
        yield temporary
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise SponError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def output_folder(path: str | Path) -> Path:
    """Make a folder for results, and check that files can be made there.

    Args:
        path: folder; made with its parents where missing.

    Raises:
        SponError: it cannot be made, is a file, or is not writable.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except FileExistsError as error:
        raise SponError(f"cannot write into the folder {path}: it is a file") from error
    except OSError as error:
        raise SponError(f"cannot write into the folder {path}: {error.strerror}") from error
