"""Errors of meshio in one line."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from spon.errors import MissingDependencyError, SponError

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet(what: str) -> Any:
    """Turn whatever meshio prints, raises or exits with into one line.

    Raises:
        SponError: `what`, with what meshio said.
        MissingDependencyError: a module that it needs is missing.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), np.errstate(all="ignore"):
            yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{what}: {error}") from error
    except (Exception, SystemExit) as error:
        known = type(error).__module__.startswith("meshio")
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        text = str(reason) if known else f"{type(error).__name__}: {reason}"
        if isinstance(error, SystemExit):
            text = said.getvalue().partition("Error: Couldn't read file")[0]
        detail = " ".join(text.split()) or "it is cut off or of another format"
        raise SponError(f"{what}: {detail[:300]}") from error
