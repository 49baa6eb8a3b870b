import errno
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Diffusion, on_square
from mpi4py import MPI

import spon
from spon.data import backends
from spon.data.backends import PetscBackend, solve_samples
from spon.data.blocks import Block
from spon.data.estimate import estimate
from spon.data.fields import generator
from spon.data.generation import Generation, generate_file
from spon.data.manifest import Manifest
from spon.data.parts import Parts
from spon.data.sharing import Sharing

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF


def alone(problem, output, samples, **more):
    """Generate on one rank; what was said, and the data set."""
    said = []
    generate_file(problem, output, Generation(samples, seed=1, **more), SELF, said.append)
    return said, spon.Dataset.load(output)


def interrupted(problem, output, samples, after, monkeypatch, **more):
    """Generate on one rank, and stop after some shards."""
    left = [after]
    write = Parts.write

    def limited(parts, block):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(parts, block)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "write", limited)
        with pytest.raises(KeyboardInterrupt):
            alone(problem, output, samples, shard_size=2, **more)


def gathered(numbers):
    return sorted(number for part in WORLD.allgather(numbers) for number in part)


def same(data, reference):
    np.testing.assert_array_equal(data.numbers, reference.numbers)
    np.testing.assert_allclose(data.inputs, reference.inputs, rtol=1e-10)
    np.testing.assert_allclose(data.outputs, reference.outputs, atol=1e-10)
    assert data.discretisation.fingerprint == reference.discretisation.fingerprint


@pytest.fixture
def solves(monkeypatch):
    """Numbers of the samples that are solved."""
    numbers = []
    solve = PetscBackend._solve
    monkeypatch.setattr(PetscBackend, "_solve", lambda *args: numbers.append(args[1]) or solve(*args))
    return numbers


@pytest.mark.mpi
def test_a_file_does_not_depend_on_ranks_and_groups(problem, dataset, shared_folder):
    generate_file(problem, shared_folder / "a.h5", Generation(9, seed=1), WORLD)
    group = WORLD.Split(color=min(WORLD.rank, 1), key=WORLD.rank)
    for name, comm in (("b.h5", group), ("c.h5", WORLD)):
        what = Generation(9, seed=1, split=(5, 3), batch_size=2, shard_size=3)
        generate_file(Diffusion(on_square(3, 2, comm)), shared_folder / name, what, WORLD)
    for name in ("a.h5", "b.h5", "c.h5"):
        same(spon.Dataset.load(shared_folder / name), dataset[:9])
    made = spon.Dataset.load(shared_folder / "c.h5")
    assert [len(part) for part in made.split()] == [5, 3]
    assert made.seed == 1
    assert (made.seconds > 0).all()
    assert len(list(shared_folder.iterdir())) == 3  # no parts are left
    WORLD.Barrier()
    group.Free()


class Fragile(Diffusion):
    """Samples 2 and 5 of seed 1 cannot be solved."""

    def sample(self, rng):
        m = super().sample(rng)
        bad = [Diffusion.sample(self, generator(1, k)) for k in (2, 5)]
        return 0 * m if any(np.array_equal(m, b) for b in bad) else m


@pytest.mark.mpi
def test_failed_samples_are_recorded_and_missing_from_their_part(problem, dataset, shared_folder):
    fragile = Fragile(problem.hierarchy)
    made = generate_file(fragile, shared_folder / "a.h5", Generation(8, seed=1, split=(4, 4)), WORLD)
    data = spon.Dataset.load(shared_folder / "a.h5")
    same(data, dataset[[0, 1, 3, 4, 6, 7]])
    assert [f.number for f in data.failures] == [2, 5]
    assert all("did not converge" in f.reason for f in data.failures)
    assert data.sizes == (3, 3)
    assert (made is None) == (WORLD.rank > 0)
    # they are not tried again, and a part that failed as a whole is no part
    generate_file(fragile, shared_folder / "a.h5", Generation(8, seed=1, split=(5, 1, 2)), WORLD)
    assert spon.Dataset.load(shared_folder / "a.h5").sizes == ()


@pytest.mark.mpi
def test_a_bug_in_a_problem_ends_all_ranks(problem, shared_folder):
    class Buggy(Diffusion):
        def sample(self, rng):
            if np.array_equal(super().sample(rng), super().sample(generator(1, 3))):
                raise ZeroDivisionError("of the user")
            return super().sample(generator(1, 0))

    mine = WORLD.rank == 3 % WORLD.size  # sample 3's
    with pytest.raises(ZeroDivisionError if mine else spon.SponError, match="of the user"):
        generate_file(Buggy(problem.hierarchy), shared_folder / "a.h5", Generation(300, seed=1), WORLD)
    WORLD.Barrier()
    shards = list((shared_folder / "a.h5.parts").glob("shard-*"))
    count = 0
    for shard in shards:
        with h5py.File(shard) as file:
            count += len(file["numbers"])
    shares = 300 * (WORLD.size - 1) // WORLD.size  # of the others, which they do not finish first
    assert count < max(shares, 4)


@pytest.mark.mpi
def test_progress_of_all_groups_reaches_the_first_rank():
    told = []
    with Sharing(WORLD, SELF, told.append) as sharing:
        mine = sharing.share(range(20))
        for _ in mine:
            sharing.tell(1)
        assert not sharing.halted()
    assert sum(told) == (20 if WORLD.rank == 0 else 0)
    assert gathered(list(mine)) == list(range(20))


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_run_goes_on(problem, dataset, tmp_path, monkeypatch, solves, after):
    output = tmp_path / "a.h5"
    interrupted(problem, output, 10, after, monkeypatch)
    assert not output.exists()
    solves.clear()
    said, data = alone(problem, output, 10)
    assert solves == list(range(2 * after, 10))
    assert said == ([f"resuming: {2 * after} of 10 samples are done"] if after else [])
    same(data, dataset[:10])


@pytest.mark.mpi
def test_another_number_of_ranks_and_of_samples_goes_on(problem, dataset, shared_folder, monkeypatch, solves):
    output = shared_folder / "a.h5"
    if WORLD.rank == 0:
        interrupted(problem, output, 20, 3, monkeypatch)
    WORLD.Barrier()
    solves.clear()
    generate_file(problem, output, Generation(9, seed=1), WORLD)
    assert gathered(solves) == [6, 7, 8]
    same(spon.Dataset.load(output), dataset[:9])
    solves.clear()
    generate_file(problem, output, Generation(12, seed=1, split=(10, 2)), WORLD)
    assert gathered(solves) == [9, 10, 11]
    generate_file(problem, output, Generation(12, seed=1, split=(8, 4)), WORLD)
    assert gathered(solves) == [9, 10, 11]
    same(spon.Dataset.load(output), dataset[:12])
    assert spon.Dataset.load(output).sizes == (8, 4)


def test_a_complete_file_is_left_alone(problem, tmp_path, solves):
    output = tmp_path / "a.h5"
    alone(problem, output, 4)
    before = output.read_bytes()
    solves.clear()
    for samples in (4, 3):
        said, _ = alone(problem, output, samples)
        assert said == [f"{output} is complete: 4 samples; nothing to do"]
    assert output.read_bytes() == before
    assert solves == []


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_damaged_shards_are_dropped_and_solved_again(problem, dataset, tmp_path, monkeypatch, solves, damage):
    output = tmp_path / "a.h5"
    interrupted(problem, output, 10, 3, monkeypatch)
    shard = output.with_name("a.h5.parts") / "shard-000000002.h5"
    if damage == "altered":
        with h5py.File(shard, "a") as file:
            file["outputs"][0, 0] += 1e-3
    else:
        shard.write_bytes(shard.read_bytes()[: 3000 if damage == "truncated" else 0])
    (shard.parent / ".shard-000000006.h5.xyz").mkdir()  # left by a kill
    solves.clear()
    said, data = alone(problem, output, 10)
    assert said[0] == f"{shard.name} was damaged and is dropped; its samples are solved again"
    assert solves == [2, 3, 6, 7, 8, 9]
    same(data, dataset[:10])
    assert list(tmp_path.iterdir()) == [output]


def test_parts_of_another_generation_are_refused_or_discarded(problem, dataset, tmp_path, monkeypatch):
    output = tmp_path / "a.h5"
    interrupted(problem, output, 6, 2, monkeypatch)
    finer = Diffusion(on_square(3, 1))
    other = Fragile(problem.hierarchy)
    stronger = Diffusion(problem.hierarchy)
    stronger.source = 2.0
    for changed, message in (
        (finer, "another mesh, element or constraint"),
        (other, "problem .* now test_generate.py"),
        (stronger, "settings .*'source': '1.0'.*, now .*'source': '2.0'"),
    ):
        with pytest.raises(spon.SponError, match=rf"start of another generation: {message}.* --overwrite"):
            alone(changed, output, 6)
    with pytest.raises(spon.SponError, match="seed 1, now 2; finish that, or discard it with --overwrite"):
        generate_file(problem, output, Generation(6, seed=2), SELF)
    alone(finer, output, 6, overwrite=True)
    with pytest.raises(spon.SponError, match=r"a\.h5 is another data set: another mesh.* --force"):
        alone(problem, output, 6)
    _, data = alone(problem, output, 6, force=True)
    same(data, dataset[:6])


def test_a_changed_problem_file_and_what_it_imports_are_noticed(problem, tmp_path, monkeypatch):
    output = tmp_path / "a.h5"
    interrupted(problem, output, 6, 2, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: b"another version")
        with pytest.raises(spon.SponError, match=r"the problem file conftest.py has changed since"):
            alone(problem, output, 6)
    sample = Diffusion.sample
    monkeypatch.setattr(Diffusion, "sample", lambda self, rng: 1.001 * sample(self, rng))
    with pytest.raises(spon.SponError, match="sample 0 was drawn differently before"):
        alone(problem, output, 6)


def test_what_spon_did_not_write_is_not_touched(problem, dataset, tmp_path):
    output = tmp_path / "a.h5"
    dataset.save(output)
    before = output.read_bytes()
    with pytest.raises(spon.SponError, match=r"a\.h5 is another data set: it was not made by spon generate"):
        alone(problem, output, 3)
    assert output.read_bytes() == before
    with pytest.raises(spon.SponError, match="it is a folder"):
        alone(problem, tmp_path, 3)
    (tmp_path / "b.h5.parts").mkdir()
    (tmp_path / "b.h5.parts" / "thesis.txt").touch()
    with pytest.raises(spon.SponError, match=r"b\.h5\.parts is no folder of parts, it has 'thesis.txt'"):
        alone(problem, tmp_path / "b.h5", 3, overwrite=True, force=True)
    assert (tmp_path / "b.h5.parts" / "thesis.txt").exists()
    alone(problem, output, 3, force=True)


def test_two_runs_do_not_share_a_file(problem, tmp_path):
    parts = Parts(tmp_path / "a.h5", Manifest.of(problem, 1, "petsc"))
    parts.open(overwrite=False)
    with pytest.raises(spon.SponError, match=r"another run is generating .*a\.h5; wait for it, or end it"):
        alone(problem, tmp_path / "a.h5", 3)
    parts.close()
    alone(problem, tmp_path / "a.h5", 3)


@pytest.mark.mpi
@pytest.mark.parametrize(("shard", "shared"), [(0, False), (2, False), (2, True)])
def test_a_full_disk_is_one_line_and_costs_nothing(
    problem, dataset, shared_folder, monkeypatch, shard, shared
):
    """The disk of the last rank is full, or of the first of those that share a mesh."""
    if shared:
        problem = Diffusion(on_square(3, 2, WORLD))
    output = shared_folder / "a.h5"
    write, left = Path.write_bytes, [shard]

    def full(path, content):
        left[0] -= 1
        if left[0] < 0:
            write(path, bytes(content)[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch:
        if WORLD.rank == (0 if shared else WORLD.size - 1):
            patch.setattr(Path, "write_bytes", full)
        with pytest.raises(spon.SponError, match=r"^cannot write .*: No space left on device$"):
            generate_file(problem, output, Generation(20, seed=1, shard_size=1), WORLD)
    WORLD.Barrier()
    assert not output.exists()
    generate_file(problem, output, Generation(20, seed=1), WORLD)
    same(spon.Dataset.load(output), dataset[:20])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space"), RuntimeError("Unable to flush")])
def test_a_disk_that_fills_up_while_merging_leaves_the_old_file(problem, tmp_path, monkeypatch, error):
    output = tmp_path / "a.h5"
    alone(problem, output, 3)
    before = output.read_bytes()

    def full(group, *_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(spon.Discretisation, "write", full)
        with pytest.raises(spon.SponError, match=r"^cannot write .*a\.h5: (No space left|Unable to flush)"):
            alone(problem, output, 5)
    assert output.read_bytes() == before
    said, data = alone(problem, output, 5)
    assert said == ["resuming: 5 of 5 samples are done"]
    assert len(data) == 5


def test_an_estimate_holds(problem, tmp_path):
    found = estimate(problem, tmp_path / "a.h5", Generation(20, seed=1), SELF)
    assert list(tmp_path.iterdir()) == []
    alone(problem, tmp_path / "a.h5", 20)
    assert found.size == pytest.approx((tmp_path / "a.h5").stat().st_size, rel=0.05)
    assert 0 < found.later <= found.seconds
    assert 50e6 < found.peak < found.memory
    assert estimate(Fragile(problem.hierarchy), tmp_path / "b.h5", Generation(2), SELF).failures == ()


def test_backends_get_batches_and_what_is_not_finite_is_no_data(problem, monkeypatch):
    class Batched(PetscBackend):
        def solve(self, numbers, inputs):
            batches.append(list(numbers))
            outcomes = super().solve(numbers, inputs)
            outcomes[-1].values[3] = np.nan
            return outcomes

    batches = []
    monkeypatch.setitem(backends.BACKENDS, "batched", Batched)
    with pytest.raises(spon.SponError, match="and 2 others failed: the solution is not finite"):
        spon.generate(problem, 3, seed=1, comm=SELF, backend="batched")  # one at a time
    batches.clear()
    blocks = list(solve_samples(Batched(problem), range(7), 1, batch_size=3))
    assert batches == [[0, 1, 2], [3, 4, 5], [6]]
    whole = Block.merged(blocks)
    assert list(whole.numbers) == [0, 1, 3, 4]
    assert [(f.number, f.reason) for f in whole.failures] == [
        (number, "the solution is not finite") for number in (2, 5, 6)
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples 0; allowed: >= 1"),
        ({"samples": 1, "seed": -1}, "seed -1; allowed: >= 0"),
        ({"samples": 1, "batch_size": 0}, "batch size 0; allowed: >= 1"),
        ({"samples": 9, "split": (5, 5)}, "cannot split 9 samples into 5, 5"),
        ({"samples": 9, "split": (5, 0)}, "cannot split 9 samples into 5, 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(spon.SponError, match=message):
        Generation(**settings)
