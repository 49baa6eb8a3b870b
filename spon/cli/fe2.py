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
_LOCAL_SUFFIXES = (".vtu", ".xdmf", ".png")


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
        help="largest indicator that is accepted; default: any of the trained range",
    )
    run.add_argument(
        "--local",
        metavar=("X,Y", "FILE"),
        nargs=2,
        action="append",
        default=[],
        help="stresses in the cell, with --rve, at the point next to X,Y: .vtu, .xdmf, .png; several times "
        "for several points",
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
        with agree(comm):
            places = [_place(text, problem.mesh.arrays.gdim) for text, _ in chosen.local]
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
    for (_, file), at in zip(chosen.local, places, strict=True):
        strain, found = solution.strain_at(at)
        with agree(comm):
            if comm.rank == 0:
                _write_local(file, chosen.rve, strain)
        say(f"{file}: the cell at {_numbers(found)}, strain {_numbers(strain)}")


def _write_local(file: str, path: str, strain: Any) -> None:
    """Solve the cell at a macroscopic strain and write its fields."""
    import torch

    cell, macro = spon.RVE.load(path), torch.as_tensor(strain)
    spon.write_local_fields(file, cell, macro, cell.solve(macro[None]).fluctuation[0])


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _place(text: str, size: int) -> list[float]:
    """Return the coordinates that a text gives."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != size or not all(map(math.isfinite, values)):
        raise SponError(f"--local {text}; allowed: {size} numbers, such as {','.join(['10'] * size)}")
    return values


def _check(chosen: argparse.Namespace) -> None:
    if chosen.surrogate is None and chosen.rve is None:
        raise SponError("there is no microscale; allowed: --surrogate FILE, --rve FILE or both")
    both = chosen.surrogate is not None and chosen.rve is not None
    if chosen.fallback is not None and not both:
        raise SponError("--fallback fe needs --surrogate and --rve")
    if both and chosen.fallback is None and not chosen.local:
        raise SponError("--surrogate and --rve together need --fallback fe, or --local")
    if chosen.local and chosen.rve is None:
        raise SponError("--local needs the cell; allowed: --rve FILE")
    if chosen.threshold is not None and not (chosen.fallback is not None and chosen.threshold > 0):
        raise SponError(f"--threshold {chosen.threshold:g}; allowed: positive numbers, with --fallback fe")
    targets = [] if chosen.target is None else [(chosen.target, _SUFFIXES)]
    for name, suffixes in [*targets, *((file, _LOCAL_SUFFIXES) for _, file in chosen.local)]:
        target = Path(name)
        if target.suffix not in suffixes:
            raise SponError(f"{target}: unknown output format; allowed: {', '.join(suffixes)}")
        if not target.resolve().parent.is_dir():
            raise SponError(f"cannot write {target}: no such folder")


def _micromodel(chosen: argparse.Namespace) -> Any:
    cell = None if chosen.rve is None else spon.FEModel(spon.RVE.load(chosen.rve))
    if chosen.surrogate is None:
        return cell
    surrogate = spon.load_surrogate(chosen.surrogate)
    if chosen.fallback is None:
        return surrogate
    return spon.WithFallback(surrogate, cell, math.inf if chosen.threshold is None else chosen.threshold)


def _described(chosen: argparse.Namespace) -> str:
    if chosen.surrogate is None:
        return f"the cell {chosen.rve}, solved at each point"
    if chosen.fallback is None:
        return str(chosen.surrogate)
    cases = ["it fails", "it is outside its range"]
    if chosen.threshold is not None:
        cases.append(f"its indicator exceeds {chosen.threshold:g}")
    return f"{chosen.surrogate}; the cell {chosen.rve} where {', '.join(cases[:-1])} or {cases[-1]}"
