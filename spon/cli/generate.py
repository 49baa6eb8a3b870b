"""`spon generate`: draw inputs, solve, and write a data set."""

from __future__ import annotations

import argparse
import time
from typing import Any

from spon.errors import SponError

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser(
        "generate",
        help="draw random inputs of a problem, solve, and write a data set",
        description="Draw random inputs of a problem file, solve for the outputs and write a data set. "
        "Sample i depends on the seed and i alone, whatever the number of ranks. Killed at any time, the "
        "same command goes on where it was; with a larger -n it adds samples to a data set.",
    )
    add = parser.add_argument
    add("problem", metavar="PROBLEM", help="problem file, or the name of one that comes with spon, as plate")
    add("-n", metavar="N", type=int, required=True, help="how many samples")
    add("-o", "--output", metavar="FILE", required=True, help="HDF5 file; parts of it are kept in FILE.parts")
    add("--mesh", metavar="FILE", help="default: the problem's own")
    add("--refinements", metavar="R", type=int, help="of the mesh; default: the problem's own, 0 with --mesh")
    add("--seed", type=int, default=0, help="of the random inputs; default: 0")
    add("--split", metavar="K,K…", type=_sizes, default=(), help="training samples, test samples, as 200,50")
    add("--class", metavar="NAME", dest="name", help="of the problem, where a file has several")
    add("--ranks-per-sample", metavar="K", type=int, default=1, help="ranks that share a mesh; default: 1")
    add(
        "--backend", metavar="NAME", default="petsc", help="what solves: petsc (default) or torch, in batches"
    )
    add("--batch-size", metavar="B", type=int, default=1, help="samples solved at a time; default: 1")
    add("--shard-size", metavar="S", type=int, default=16, help="samples written at a time; default: 16")
    add(
        "--similar", action="store_true", help="solve samples that are alike one after the other; hardly pays"
    )
    add("--dry-run", action="store_true", help="solve two samples and say what all would take")
    add("--overwrite", action="store_true", help="discard the start of another generation in FILE.parts")
    add("--force", action="store_true", help="replace a FILE that this command does not continue")
    parser.set_defaults(run=run)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: sizes such as 200,50") from error


def run(chosen: argparse.Namespace) -> None:
    """Generate a data set. Collective over all ranks."""
    from spon._compat import require_dolfinx

    require_dolfinx()
    from mpi4py import MPI

    from spon.data.generation import Generation, generate_file

    started = time.perf_counter()
    comm = MPI.COMM_WORLD
    what = Generation(
        chosen.n,
        chosen.seed,
        chosen.split,
        chosen.backend,
        chosen.batch_size,
        chosen.shard_size,
        chosen.overwrite,
        chosen.force,
        chosen.similar,
    )
    problem, group = _problem(chosen, comm)

    def say(text: str) -> None:
        if comm.rank == 0:
            print(text, flush=True)

    d = problem.discretisation
    dofs = ", ".join(f"{name} {space.dofs}" for name, space in d.inputs.items())
    say(f"problem  {type(problem).__name__}: {dofs} > {problem.output_name} {d.dofs} DoFs")
    groups = comm.size // group.size
    say(f"ranks    {comm.size}: {groups} {'group' if groups == 1 else 'groups'} of {group.size}")
    if chosen.dry_run:
        _dry_run(problem, chosen, what, comm, say, time.perf_counter() - started)
        return
    clock = time.perf_counter()
    done = generate_file(problem, chosen.output, what, comm, say)
    if done is not None:
        print("\n".join([*summary(done, time.perf_counter() - clock), *choices(problem)]))
        print(f"{chosen.output}")


def _problem(chosen: argparse.Namespace, comm: Any) -> tuple[Any, Any]:
    """The problem, and the communicator of the ranks that share a mesh."""
    from spon.data.targets import check_target
    from spon.errors import agree
    from spon.physics.assembled.loading import problem_class

    k = chosen.ranks_per_sample
    if k < 1 or comm.size % k:
        raise SponError(f"{k} ranks per sample; allowed: divisors of {comm.size}, the number of ranks")
    with agree(comm):
        if comm.rank == 0:
            from pathlib import Path

            check_target(Path(chosen.output), chosen.force or chosen.dry_run)
    found = problem_class(chosen.problem, chosen.name)
    group = comm.Split(color=comm.rank // k, key=comm.rank)
    return found.from_mesh(chosen.mesh, comm, group, refinements=chosen.refinements), group


def summary(done: Any, seconds: float) -> list[str]:
    """Return what came of a generation, in lines.

    Args:
        done: `Block` of all samples.
        seconds: wall time.
    """
    import numpy as np

    solved, failed = len(done.numbers), len(done.failures)
    lines = [f"samples  {solved} solved, {failed} failed, {seconds:.1f} s"]
    reasons: dict[str, list[int]] = {}
    for failure in done.failures:
        reasons.setdefault(failure.reason, []).append(failure.number)
    for reason, numbers in list(reasons.items())[:5]:
        which = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
        lines.append(f"failed   {which}: {reason}")
    if len(reasons) > 5:
        lines.append(f"         and {len(reasons) - 5} other reasons, in the file's failures/reasons")
    for name, values in done.statistics.items():
        if name == "arm":  # a number of a solver
            continue
        known = values[np.isfinite(values)]
        if len(known):
            lines.append(f"{name:<12} mean {known.mean():.4g}, max {known.max():.4g}")
    return lines


def choices(problem: Any) -> list[str]:
    """Return which solvers a tuned problem chose on this rank, in lines; none for others.

    Args:
        problem: after some solves.
    """
    solver: Any = getattr(vars(problem).get("system"), "solver", None)
    totals = solver.totals() if hasattr(solver, "totals") else {}
    return [
        f"solver   {name}: {total.systems} of {len(solver.log)} on rank 0, {total.seconds:.2f} s"
        + (f", {total.failures} left to a factorisation" if total.failures else "")
        for name, total in sorted(totals.items(), key=lambda item: -item[1].systems)
        if total.systems
    ]


def _dry_run(problem: Any, chosen: argparse.Namespace, what: Any, comm: Any, say: Any, setup: float) -> None:
    from spon.data.estimate import estimate

    found = estimate(problem, chosen.output, what, comm)
    mb = 1e6
    say(f"measured set-up {setup:.1f} s, first sample {found.first:.3f} s, second sample {found.later:.3f} s")
    say(
        f"measured memory {found.peak / mb:.0f} MB on all ranks, file without samples "
        f"{found.fixed / mb:.2f} MB"
    )
    for reason in found.failures:
        say(f"failed   {reason}")
    say(
        f"estimate {what.samples} samples: {found.seconds:.1f} s and set-up, memory "
        f"{found.memory / mb:.0f} MB, file {found.size / mb:.2f} MB"
    )
