from dataclasses import replace

import h5py
import numpy as np
import pytest
from conftest import Diffusion, on_square
from mpi4py import MPI

import spon
from spon.data.fields import generator

WORLD = MPI.COMM_WORLD


@pytest.mark.mpi
def test_content_does_not_depend_on_the_number_of_ranks(problem, dataset):
    alone = np.array([problem.sample(generator(1, i)) for i in range(24)])
    np.testing.assert_allclose(dataset.inputs, alone, rtol=1e-10)
    np.testing.assert_allclose(dataset.outputs, [problem.solve(m) for m in alone], atol=1e-10)
    np.testing.assert_array_equal(dataset.numbers, np.arange(24))
    assert (dataset.seconds > 0).all()


@pytest.mark.mpi
def test_ranks_that_share_a_mesh_and_groups_that_share_samples_agree(dataset):
    """Rank 0 alone is one group, the others share a distributed mesh."""
    group = WORLD.Split(color=min(WORLD.rank, 1), key=WORLD.rank)
    spread = spon.generate(Diffusion(on_square(3, 2, group)), 7, seed=1)
    np.testing.assert_allclose(spread.inputs, dataset.inputs[:7], rtol=1e-10)
    np.testing.assert_allclose(spread.outputs, dataset.outputs[:7], atol=1e-10)
    group.Free()


@pytest.mark.mpi
def test_a_failed_solve_is_recorded_and_with_strict_an_error_on_all_ranks(problem, dataset):
    class Broken(Diffusion):
        def sample(self, rng):
            m = super().sample(rng)
            return 0 * m if m[0] in broken else m

    broken = [problem.sample(generator(1, 2))[0]]
    made = spon.generate(Broken(problem.hierarchy), 4, seed=1)
    np.testing.assert_array_equal(made.numbers, [0, 1, 3])
    np.testing.assert_allclose(made.outputs, dataset.outputs[[0, 1, 3]], atol=1e-10)
    assert [f.number for f in made.failures] == [2]
    assert made.failures[0].reason.startswith("the linear solver did not converge")
    with pytest.raises(spon.SponError, match=r"sample 2 \(seed 1\) failed: the linear solver did not"):
        spon.generate(Broken(problem.hierarchy), 4, seed=1, strict=True)
    broken = [problem.sample(generator(1, number))[0] for number in (0, 1)]
    with pytest.raises(spon.SponError, match=r"sample 0 \(seed 1\), and 1 others failed"):
        spon.generate(Broken(problem.hierarchy), 2, seed=1)
    with pytest.raises(spon.SponError, match="samples = 0, seed = 0; allowed: samples >= 1"):
        spon.generate(problem, 0)
    with pytest.raises(spon.SponError, match="backend 'abacus'; allowed: petsc"):
        spon.generate(problem, 1, backend="abacus")


def test_saved_and_loaded_are_the_same(dataset, tmp_path):
    dataset.save(tmp_path / "d.h5")
    loaded = spon.Dataset.load(tmp_path / "d.h5")
    for name in ("inputs", "outputs", "numbers", "seconds", "seed", "output_name"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(dataset, name))
    assert list(loaded.discretisation.inputs) == ["kappa"]
    assert loaded.units == {"kappa": "W/(m K)", "u": "K"}
    assert loaded.discretisation.fingerprint == dataset.discretisation.fingerprint
    assert spon.Discretisation.load(tmp_path / "d.h5").dofs == dataset.discretisation.dofs
    assert list(tmp_path.iterdir()) == [tmp_path / "d.h5"]  # nothing temporary is left


def test_split_is_consecutive_and_checked(dataset):
    a, b = dataset.split(20, 3)
    assert (len(a), len(b)) == (20, 3)
    np.testing.assert_array_equal(b.numbers, [20, 21, 22])
    for sizes in ((20, 5), (24, 0)):
        with pytest.raises(spon.SponError, match="cannot split 24 samples into"):
            dataset.split(*sizes)


def test_damaged_data_are_refused(dataset, tmp_path):
    with pytest.raises(spon.SponError, match=r"inputs of shape \(24, 3\); allowed: \(24, 169\)"):
        replace(dataset, inputs=dataset.inputs[:, :3])
    bad = dataset.outputs.copy()
    bad[5, 7] = np.inf
    with pytest.raises(spon.SponError, match="outputs of sample 5 are not finite"):
        replace(dataset, outputs=bad)
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(spon.SponError, match="not a readable HDF5 file"):
        spon.Dataset.load(tmp_path / "text.h5")
    dataset.discretisation.save(tmp_path / "d.h5")
    with pytest.raises(spon.SponError, match="is not a spon data set"):
        spon.Dataset.load(tmp_path / "d.h5")
    dataset.save(tmp_path / "e.h5")
    with h5py.File(tmp_path / "e.h5", "a") as file:
        del file["outputs"]
    with pytest.raises(spon.SponError, match="incomplete or damaged data set"):
        spon.Dataset.load(tmp_path / "e.h5")
    dataset.save(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "a") as file:
        del file.attrs["seed"]
    with pytest.raises(spon.SponError, match="incomplete or damaged data set"):
        spon.Dataset.load(tmp_path / "f.h5")
    with pytest.raises(spon.SponError, match=r"cannot write .*: No such file"):
        dataset.save(tmp_path / "absent" / "d.h5")
