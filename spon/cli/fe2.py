"""`spon fe2`: macroscopic problems whose points ask a surrogate, or the finite-element model of a cell."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import spon
from spon.errors import SponError, agree

__all__ = ["add_parser"]

_SUFFIXES = (".bp", ".xdmf", ".vtu", ".pvd", ".png")


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser("fe2", help="two-scale simulations", description="Two-scale simulations.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    run = actions.add_parser(
        "run",
        help="solve a macroscopic problem",
        description="Solve a macroscopic problem. Its file defines macro(comm), which returns a "
        "spon.TwoScaleProblem. With --surrogate the points ask that (FE-OL); with --rve alone each solves "
        "the cell (FE²); with both and --fallback fe, the points where the surrogate fails or its indicator "
        "exceeds the threshold solve the cell.",
    )
    run.add_argument("macro", metavar="MACRO.py", help="file with the macroscopic problem")
    run.add_argument("--surrogate", metavar="FILE", help="trained surrogate")
    run.add_argument("--rve", metavar="FILE", help="the cell, as spon.RVE saves it")
    run.add_argument("--fallback", choices=["fe"], help="solve the cell where the surrogate is in doubt")
    run.add_argument(
        "--threshold",
        metavar="T",
        type=float,
        help="largest indicator that is accepted; default: the surrogate falls back where it fails alone",
    )
    run.add_argument("-o", metavar="FILE", dest="target", help=", ".join(_SUFFIXES))
    run.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> None:
    from spon._compat import require_dolfinx

    require_dolfinx()
    from mpi4py import MPI

    comm = MPI.COMM_WORLD

    def say(text: str) -> None:
        if comm.rank == 0:
            print(text, flush=True)

    with agree(comm):
        _check(chosen)
        model = _micromodel(chosen)
        build = getattr(spon.load_problem(chosen.macro), "macro", None)
        if not callable(build):
            raise SponError(f"{chosen.macro} defines no macro(comm); it has to return a spon.TwoScaleProblem")
    problem = build(comm)
    if not isinstance(problem, spon.TwoScaleProblem):
        raise SponError(
            f"macro(comm) of {chosen.macro} returned a {type(problem).__name__}; allowed: a "
            "spon.TwoScaleProblem"
        )
    with problem:
        cells = problem.mesh.arrays.cells.shape[0]
        points = sum(comm.allgather(len(problem.points)))
        say(f"macro    {cells} cells, {problem.order.size} DoFs, {points} points, {comm.size} ranks")
        say(f"micro    {_described(chosen)}")
        solution = problem.solve(model, say)
    for line in solution.summary():
        say(line)
    if chosen.target is not None:
        solution.write(chosen.target)
        say(chosen.target)


def _check(chosen: argparse.Namespace) -> None:
    if chosen.surrogate is None and chosen.rve is None:
        raise SponError("there is no microscale; allowed: --surrogate FILE, --rve FILE or both")
    both = chosen.surrogate is not None and chosen.rve is not None
    if both != (chosen.fallback is not None):
        raise SponError("--fallback fe needs --surrogate and --rve, and both of them need --fallback fe")
    if chosen.threshold is not None and not (both and chosen.threshold > 0):
        raise SponError(f"--threshold {chosen.threshold:g}; allowed: positive numbers, with --fallback fe")
    if chosen.target is not None:
        target = Path(chosen.target)
        if target.suffix not in _SUFFIXES:
            raise SponError(f"{target}: unknown output format; allowed: {', '.join(_SUFFIXES)}")
        if not target.resolve().parent.is_dir():
            raise SponError(f"cannot write {target}: no such folder")


def _micromodel(chosen: argparse.Namespace) -> Any:
    cell = None if chosen.rve is None else spon.FEModel(spon.RVE.load(chosen.rve))
    if chosen.surrogate is None:
        return cell
    surrogate = spon.load_surrogate(chosen.surrogate)
    if cell is None:
        return surrogate
    return spon.WithFallback(surrogate, cell, math.inf if chosen.threshold is None else chosen.threshold)


def _described(chosen: argparse.Namespace) -> str:
    if chosen.surrogate is None:
        return f"the cell {chosen.rve}, solved at each point"
    if chosen.rve is None:
        return str(chosen.surrogate)
    limit = "" if chosen.threshold is None else f" or its indicator exceeds {chosen.threshold:g}"
    return f"{chosen.surrogate}; the cell {chosen.rve} where it fails{limit}"
