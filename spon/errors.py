"""Errors that users meet: one line that names the thing, the value found and the values allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["MissingDependencyError", "SponError", "agree"]


class SponError(Exception):
    """A failure that the user can mend; its message is one line."""


class MissingDependencyError(SponError, ImportError):
    """A part of spon was used that needs a package which is not installed."""


@contextmanager
def agree(comm: Comm) -> Iterator[None]:
    """Make every rank raise if one rank does, so that nothing hangs.

    Collective: all ranks of `comm` enter and leave together; inside, ranks may do different work
    but must not communicate over `comm`.

    Args:
        comm: communicator whose ranks have to agree.

    Raises:
        SponError: on every rank, with the message of the lowest failing rank.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    failures = [f for f in comm.allgather(_described(error)) if f is not None]
    if failures:
        if error is not None and not isinstance(error, SponError | OSError):
            raise error
        raise SponError(failures[0]) from error


def _described(error: Exception | None) -> str | None:
    if error is None:
        return None
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) if isinstance(error, SponError) else f"{type(error).__name__}: {error}"
