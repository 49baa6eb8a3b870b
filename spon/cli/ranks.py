"""Verbs that one process does, started under mpirun or not."""

from __future__ import annotations

import argparse
import contextlib
import signal
from collections.abc import Callable
from typing import Any

from spon.errors import agree

__all__ = ["alone"]


def alone(work: Callable[[argparse.Namespace], None], needs_dolfinx: bool = True) -> Any:
    """Let rank 0 work, and all ranks leave together.

    Args:
        work: takes the parsed command line.
        needs_dolfinx: whether to say so where it is missing; else MPI may be missing too.
    """

    def run(chosen: argparse.Namespace) -> None:
        if needs_dolfinx:
            from spon._compat import require_dolfinx

            require_dolfinx()
        try:
            from mpi4py import MPI
        except ImportError:
            with contextlib.suppress(BrokenPipeError):
                work(chosen)
            return
        # in place of PETSc's handler, which tells of a crash when `spon mesh info … | head` has seen enough
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with agree(MPI.COMM_WORLD):
            if MPI.COMM_WORLD.rank == 0:
                with contextlib.suppress(BrokenPipeError):
                    work(chosen)

    return run
