"""Data sets of one operator on several meshes."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from conftest import Diffusion, on_square
from mpi4py import MPI

import spon
from spon.cli.main import main
from spon.physics.kernels.physics import Physics

WORLD = MPI.COMM_WORLD


@pytest.fixture(scope="module")
def other():
    """The same operator on a coarser mesh, 6 samples."""
    return spon.generate(Diffusion(on_square(2, 2)), 6, seed=2)


def test_parts_are_those_of_each_member(dataset, other):
    collection = spon.DatasetCollection((dataset, replace(other, sizes=(3, 2, 1))))
    train, validation, test = collection.parts()
    assert [len(d) for d in train] == [len(dataset.parts()[0]), 3]
    np.testing.assert_array_equal(validation[1].numbers, other.numbers[3:5])
    np.testing.assert_array_equal(test[0].inputs, dataset.parts()[2].inputs)
    assert isinstance(collection[1:], spon.DatasetCollection)
    assert collection[1:][0] is collection[1]


@pytest.mark.mpi
def test_merged_files_hold_the_same_samples(dataset, other, shared_folder, capsys):
    a, b, c = (shared_folder / name for name in ("a.h5", "b.h5", "c.h5"))
    if WORLD.rank == 0:
        dataset.save(a)
        other.save(b)
    WORLD.Barrier()
    main(["data", "merge", str(a), str(b), "-o", str(c)])
    assert capsys.readouterr().out == (f"{c}: 2 data sets, 24 + 6 samples\n" if WORLD.rank == 0 else "")
    WORLD.Barrier()
    for found, wanted in zip(spon.DatasetCollection.load(c), (dataset, other), strict=True):
        np.testing.assert_array_equal(found.inputs, wanted.inputs)
        np.testing.assert_array_equal(found.outputs, wanted.outputs)
        assert found.discretisation.fingerprint == wanted.discretisation.fingerprint
    WORLD.Barrier()
    main(["data", "info", str(c)])
    if WORLD.rank == 0:
        assert "data set 2 of 2" in capsys.readouterr().out
    assert len(spon.DatasetCollection.load(a)) == 1
    with pytest.raises(spon.SponError, match=r"holds several data sets; read it with spon\.DatasetColl"):
        spon.Dataset.load(c)


def test_what_does_not_fit_is_refused(dataset, other, tmp_path):
    with pytest.raises(spon.SponError, match="a collection of 0 data sets; allowed: one or more"):
        spon.DatasetCollection(())
    with pytest.raises(spon.SponError, match="2 data sets on 1 discretisations; allowed: each on its own"):
        spon.DatasetCollection((dataset, dataset[:3]))
    d = other.discretisation
    renamed = replace(other, discretisation=replace(d, inputs={"k": d.input}), units={})
    with pytest.raises(spon.SponError, match=r"spaces of data set 2: k \(.*allowed: as in the first, kappa"):
        spon.DatasetCollection((dataset, renamed))
    with pytest.raises(spon.SponError, match="units of data set 2"):
        spon.DatasetCollection((dataset, replace(other, units={"u": "°C"})))
    load = np.zeros(d.dofs)
    with pytest.raises(spon.SponError, match=r"equations of data set 2: \{'kernel': 'elasticity'"):
        spon.DatasetCollection((dataset, replace(other, physics=Physics("elasticity", load, "kappa"))))
    path = tmp_path / "c.h5"
    spon.DatasetCollection((dataset, other)).save(path)
    with h5py.File(path, "a") as file:
        del file["members/0"]
    with pytest.raises(spon.SponError, match="incomplete or damaged collection"):
        spon.DatasetCollection.load(path)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = 99
    with pytest.raises(spon.SponError, match="collection format 99; allowed: 1"):
        spon.DatasetCollection.load(path)
