import errno
from pathlib import Path

import h5py
import pytest
from conftest import Diffusion, on_square
from generating import SELF, WORLD, Fragile, alone, gathered, interrupted, same

import spon
from spon.data.backends import PetscBackend
from spon.data.generation import Generation, generate_file
from spon.data.manifest import Manifest
from spon.data.parts import Parts


@pytest.fixture
def solves(monkeypatch):
    """Numbers of the samples that are solved."""
    numbers = []
    solve = PetscBackend._solve
    monkeypatch.setattr(PetscBackend, "_solve", lambda *args: numbers.append(args[1]) or solve(*args))
    return numbers


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
        (other, "problem .* now generating.py"),
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
