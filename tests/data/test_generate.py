import h5py
import numpy as np
import pytest
from conftest import Diffusion, on_square
from generating import SELF, WORLD, Fragile, alone, gathered, same

import spon
from spon.data import backends
from spon.data.backends import PetscBackend, solve_samples
from spon.data.blocks import Block
from spon.data.estimate import estimate
from spon.data.fields import generator
from spon.data.generation import Generation, generate_file
from spon.data.sharing import Sharing


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
