"""Parse the command line; answer every foreseeable failure in one line."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from spon import __version__
from spon.cli import data, demo, evaluate, generate, imports, mesh, predict, rve, train
from spon.errors import SponError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit status 2 for an error that the user can mend.

    Args:
        arguments: default: those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="spon", description="Learn PDE solution operators on finite-element spaces."
    )
    parser.add_argument("--version", action="version", version=f"spon {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    demo.add_parser(verbs)
    generate.add_parser(verbs)
    evaluate.add_parser(verbs)
    predict.add_parser(verbs)
    mesh.add_parser(verbs)
    imports.add_parser(verbs)
    data.add_parser(verbs)
    train.add_parser(verbs)
    rve.add_parser(verbs)
    try:
        from mpi4py import MPI

        comm: Any = MPI.COMM_WORLD
    except ImportError:  # reported by the verb that needs it
        comm = None
    first = comm is None or comm.rank == 0
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun's processes are ranks without MPI
        first = os.environ["RANK"] == "0"
    with contextlib.ExitStack() as stack:
        if not first:  # one message, not one from each rank
            silence = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(contextlib.redirect_stdout(silence))
            stack.enter_context(contextlib.redirect_stderr(silence))
        chosen = parser.parse_args(arguments)
    if comm is not None and comm.size > 1:
        sys.excepthook = _abort_all
    try:
        chosen.run(chosen)
    except SponError as error:
        if first:
            print(f"spon: error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _abort_all(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End every rank on an unforeseen error of one, since the others would wait for it for ever."""
    from mpi4py import MPI

    print(f"rank {MPI.COMM_WORLD.rank}:", file=sys.stderr)
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)
