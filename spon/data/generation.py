"""Generate a data set into a file, sample by sample, so that a killed run can go on."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

from spon.data.backends import Backend, draw, make_backend, solve_samples
from spon.data.blocks import Block
from spon.data.costs import SharedCosts
from spon.data.dataset import Dataset
from spon.data.generate import check_some_solved
from spon.data.manifest import Manifest
from spon.data.parts import Parts
from spon.data.shards import ShardWriter
from spon.data.sharing import Sharing
from spon.data.targets import check_target, parts_of, previous
from spon.errors import SponError, agree
from spon.physics.assembled.problem import Problem
from spon.progress import progress_bar

__all__ = ["Generation", "generate_file"]


@dataclass(frozen=True)
class Generation:
    """What to generate, and how.

    Args:
        samples: how many, ≥ 1.
        seed: of the inputs, ≥ 0.
        split: how many of the samples are for training, for testing, …; by number, so that a failed sample
            is missing from its own part.
        backend: what solves.
        batch_size: samples solved at a time.
        shard_size: samples written at a time; fewer where they take seconds.
        overwrite: whether to discard the start of another generation.
        force: whether to replace a file that is not of this generation.
        similar: whether to solve each 64 samples, together in memory, in an order in which neighbours are
            alike. It serves solvers that keep something for the next sample; by little: 8 % fewer iterations
            for `problems/helmholtz.py` with a lagged factorisation, which is then about as quick as MUMPS.

    Raises:
        SponError: a number out of range, or a split into more samples than there are.
    """

    samples: int
    seed: int = 0
    split: tuple[int, ...] = ()
    backend: str = "petsc"
    batch_size: int = 1
    shard_size: int = 16
    overwrite: bool = False
    force: bool = False
    similar: bool = False

    def __post_init__(self) -> None:
        lowest = {"samples": 1, "seed": 0, "batch_size": 1, "shard_size": 1}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise SponError(f"{name.replace('_', ' ')} {getattr(self, name)}; allowed: >= {least}")
        if self.split and (min(self.split) < 1 or sum(self.split) > self.samples):
            sizes = ", ".join(map(str, self.split))
            raise SponError(f"cannot split {self.samples} samples into {sizes}")


def generate_file(
    problem: Problem,
    output: str | Path,
    what: Generation,
    comm: MPI.Comm = MPI.COMM_WORLD,
    say: Callable[[str], object] = lambda text: None,
) -> Block | None:
    """Generate a data set into a file. Collective over `comm`.

    Finished samples are kept in the folder `FILE.parts` (see `spon.data.parts`) until all are there.
    Killed at any time, the same call goes on from these, also with other ranks or more samples. A sample
    that fails is recorded in the file and not tried again. Any exception but a SponError in a group of
    several ranks ends all ranks of `comm`, since its neighbours could wait for it for ever.

    Args:
        problem: what to draw and solve; its mesh lives on consecutive ranks of `comm`.
        output: HDF5 file to write.
        what: how many samples, and how.
        comm: all the ranks.
        say: told on rank 0 of what was found and dropped.

    Returns:
        All samples on rank 0, None on the others.

    Raises:
        SponError: on all ranks: an output that belongs to something else or cannot be written, another
            run that is writing it, inputs that cannot be drawn, no sample that could be solved.
    """
    output = Path(output)
    with agree(comm):
        if comm.rank == 0:
            check_target(output, what.force)
    with agree(comm):
        backend = make_backend(what.backend, problem)
        problem.verified_physics  # noqa: B018, a boundary that does not exist shows here
    with agree(comm):
        manifest = Manifest.of(problem, what.seed, what.backend) if comm.rank == 0 else None
    manifest = comm.bcast(manifest)
    assert manifest is not None
    parts = Parts(output, manifest)
    try:
        return _generate(backend, parts, what, comm, say)
    finally:
        parts.close()


def _generate(
    backend: Backend, parts: Parts, what: Generation, comm: MPI.Comm, say: Callable[[str], object]
) -> Block | None:
    done: set[int] = set()
    first: tuple[int, np.ndarray] | None = None
    complete = None
    with agree(comm):
        if comm.rank == 0:
            old = previous(parts, what.force)
            complete = None if old is None else _complete(old, parts, what, say)
            if complete is None:
                parts.open(what.overwrite)
                done, first = _scan(old, parts, what, say)
    if comm.bcast(complete is not None):
        return complete
    todo, first = comm.bcast((sorted(set(range(what.samples)) - done), first))
    if first is not None:
        with agree(comm):
            _compare(backend.problem, what.seed, *first)
    if todo:
        with agree(comm):
            _solve(backend, parts, what, todo, comm)
    result = None
    with agree(comm):
        if comm.rank == 0:
            result = _publish(backend.problem, parts, what, say)
    return result


def _complete(old: Dataset, parts: Parts, what: Generation, say: Callable[[str], object]) -> Block | None:
    """The samples of a file to which nothing is to be added."""
    block = Block.from_dataset(old)
    sizes = parts_of(block.numbers, what.split)
    if not block.done >= set(range(what.samples)) or (what.split and sizes != old.sizes):
        return None
    if parts.left_over:
        parts.open(overwrite=False)
        parts.remove()
    say(f"{parts.output} is complete: {len(block.done)} samples; nothing to do")
    return block


def _scan(
    old: Dataset | None, parts: Parts, what: Generation, say: Callable[[str], object]
) -> tuple[set[int], tuple[int, np.ndarray] | None]:
    """Numbers that are done, and one of them with its inputs."""
    done: set[int] = set()
    first = None
    dropped: list[str] = []
    for block in (*([] if old is None else [Block.from_dataset(old)]), *parts.read(dropped)):
        done |= block.done
        if len(block.numbers) and first is None:
            first = (int(block.numbers[0]), block.inputs[0])
    done &= set(range(what.samples))
    for name in dropped:
        say(f"{name} was damaged and is dropped; its samples are solved again")
    if done:
        say(f"resuming: {len(done)} of {what.samples} samples are done")
    return done, first


def _compare(problem: Problem, seed: int, number: int, found: np.ndarray) -> None:
    """Draw a finished sample again: its inputs may come from more than a manifest knows."""
    drawn = draw(problem, seed, number)
    if drawn.shape != found.shape or not np.allclose(drawn, found, 1e-8, 1e-10 * np.abs(found).max()):
        raise SponError(
            f"sample {number} was drawn differently before: what the problem file reads or imports has "
            "changed since; finish with the old state, or discard what there is (--overwrite, --force)"
        )


def _solve(backend: Backend, parts: Parts, what: Generation, todo: list[int], comm: MPI.Comm) -> None:
    group = backend.problem.comm
    bar = progress_bar(what.samples, "solving", "sample", comm.rank == 0, what.samples - len(todo))
    with (
        bar,
        Sharing(comm, group, bar.update) as sharing,
        ShardWriter(parts, what.shard_size, sharing.leads) as shards,
    ):
        try:
            solver = getattr(backend.problem.system, "solver", None)
            costs = SharedCosts(parts.folder, solver, group, sharing.index, sharing.groups)
            costs.exchange()
            mine = sharing.share(todo)
            for block in solve_samples(backend, mine, what.seed, what.batch_size, what.similar):
                with agree(group):
                    shards.add(block)
                    costs.exchange()
                sharing.tell(len(block.done))
                if sharing.halted():
                    break
        except Exception as error:
            if group.size > 1 and not isinstance(error, SponError):
                traceback.print_exc()
                comm.Abort(1)
            raise


def _publish(problem: Problem, parts: Parts, what: Generation, say: Callable[[str], object]) -> Block:
    """Merge what the file had with the shards; of parts that another command began, what is asked for."""
    old = previous(parts, what.force)
    blocks = [block.below(what.samples) for block in parts.read()]
    if old is not None:
        blocks.append(Block.from_dataset(old))
    whole = Block.merged(blocks)
    check_some_solved(whole, what.seed)
    sizes = parts_of(whole.numbers, what.split) if what.split else (old.sizes if old else ())
    if what.split and not sizes:
        say("not split: all samples of a part failed")
    parts.publish(whole.dataset(problem, what.seed, sizes=sizes))
    return whole
