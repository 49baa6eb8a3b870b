"""Compile processors for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from spon.nn.processors.base import Processor
from spon.training.distributed import Ranks

__all__ = ["compiled"]


@contextmanager
def compiled(
    processors: Iterable[Processor], attempt: Callable[[], None], ranks: Ranks, say: Callable[[str], None]
) -> Iterator[None]:
    """Compile processors by `torch.compile` if all ranks can; else they stay as they are. Collective.

    Args:
        processors: to compile.
        attempt: uses them, so that they are compiled now.
        ranks: the processes.
        say: told on the first rank why they are not compiled.
    """
    processors, failure = list(processors), None
    try:
        for processor in processors:
            processor.compile()
        attempt()
    except Exception as error:  # torch raises many kinds
        failure = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    failures = [f for f in ranks.allgather(failure) if f is not None]
    if failures:
        _forget(processors)
        if ranks.rank == 0:
            say(f"not compiled: {failures[0]}")
    try:
        yield
    finally:
        _forget(processors)


def _forget(processors: Iterable[Processor]) -> None:
    for processor in processors:
        processor._compiled_call_impl = None
