"""Samples, snapshots and modes of a small cell."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from cells import GridCell
from mpi4py import MPI

import spon
from spon.multiscale.rve_solver import RVENotConverged

CELL = GridCell(6)
NAMES = ("strains", "fluctuations", "stresses", "macro_stresses", "tangents", "failed", "sensitivities")


@pytest.fixture(scope="module")
def snapshots():
    return spon.take_snapshots(CELL, spon.latin_hypercube(14, 3, 0.04))


@pytest.fixture(scope="module")
def alone(snapshots):
    """The same without sensitivities, as in older files."""
    return replace(snapshots, sensitivities=None)


def energy_matrix(cell):
    """∫ ε · C ε as a matrix of point values, block by block, C at zero strain."""
    zero = torch.zeros(1, 3).double()
    tangents = np.stack([law.tangent(zero)[0].numpy() for law in cell.materials])[cell.phases]
    return cell.weights[:, None, None] * tangents


def energies(cell, strains):
    """Products of strains (points, n, k) in energy, (k, k)."""
    return np.einsum("pik,pij,pjl->kl", strains, energy_matrix(cell), strains)


@pytest.mark.parametrize("size", [3, 6])
def test_samples_lie_where_they_should(size):
    box = spon.latin_hypercube(20, size, 0.04, seed=3)
    strata = np.sort(np.floor((box / 0.04 + 1) / 2 * 20), axis=0)
    assert np.array_equal(strata, np.tile(np.arange(20)[:, None], size))
    assert np.allclose(np.linalg.norm(spon.on_sphere(9, size, 0.03), axis=1), 0.03)
    paths = spon.proportional_paths(4, size, 0.05, steps=5).reshape(4, 5, size)
    assert np.allclose(np.abs(paths).max(2), 0.01 * np.arange(1, 6))
    assert np.allclose(paths, paths[:, -1:] * np.arange(1, 6)[:, None] / 5)
    assert not np.array_equal(box, spon.latin_hypercube(20, size, 0.04, seed=4))


def test_fluctuation_modes_are_orthonormal_in_energy(snapshots):
    modes = spon.find_modes(CELL, snapshots, rank=8)
    assert np.abs(energies(CELL, modes.strains) - np.eye(8)).max() < 1e-12
    strains = (CELL.strain_operator @ modes.fluctuations).reshape(modes.strains.shape)
    assert np.abs(strains - modes.strains).max() < 1e-12 * np.abs(strains).max()
    products = np.einsum("p,pik,pil->kl", CELL.weights, modes.stresses, modes.stresses)
    assert np.abs(products - np.eye(8)).max() < 1e-12


def test_sensitivities_are_derivatives(snapshots):
    h = 1e-6
    for k, direction in enumerate(torch.eye(3).double()):
        ahead, behind = (CELL.solve(snapshots.strains[:2] + s * h * direction).fluctuation for s in (1, -1))
        slopes = (ahead - behind) / (2 * h)
        exact = snapshots.sensitivities[:2, :, k]
        assert (slopes - exact).abs().max() < 1e-6 * exact.abs().max()


def test_modes_span_fields_and_sensitivities(snapshots):
    """All modes together: 3 of 4 of them are there for the macroscopic tangent."""
    few = snapshots[:2]
    modes = spon.find_modes(CELL, few, rank=8)
    fields = torch.cat([few.fluctuations[:, :, None], few.sensitivities], 2).permute(1, 0, 2).flatten(1)
    left = fields.numpy()
    left = left - modes.fluctuations @ np.linalg.lstsq(modes.fluctuations, left, rcond=None)[0]
    assert np.abs(left).max() < 1e-9 * fields.abs().max()
    wide = spon.find_modes(CELL, few, rank=4, further=0.5)
    assert (wide.rank, wide.strains.shape[2]) == (4, 6)
    assert np.abs(wide.strains - modes.strains[:, :, :6]).max() < 1e-12 * np.abs(modes.strains).max()


def test_sensitivities_give_the_better_space(snapshots, alone):
    unseen = spon.take_snapshots(CELL, spon.latin_hypercube(10, 3, 0.04, seed=9))
    left = [
        spon.find_modes(CELL, some[:6], rank=6, held_back=unseen).strain_truncation[-1]
        for some in (snapshots, alone)
    ]
    assert left[0] < 0.8 * left[1]


def test_no_other_space_leaves_less(alone):
    """The energy that r modes leave is that of the singular values beyond r; random spaces leave more."""
    macro = torch.zeros_like(alone.strains)
    local = CELL.strains(macro, alone.fluctuations).permute(1, 2, 0).numpy()
    whole = np.trace(energies(CELL, local))
    modes = spon.find_modes(CELL, alone, rank=4)

    def left(basis):
        L = np.linalg.cholesky(energies(CELL, basis))
        cross = np.einsum("pik,pij,pjl->kl", basis, energy_matrix(CELL), local)
        return (whole - (np.linalg.solve(L, cross) ** 2).sum()) / whole

    assert left(modes.strains) == pytest.approx(modes.strain_spectrum[4:].sum(), rel=1e-6)
    mixtures = np.random.default_rng(0).standard_normal((5, len(alone), 4))
    assert all(left(local @ mixture) > left(modes.strains) for mixture in mixtures)


def test_all_modes_reproduce_the_alone(alone):
    modes = spon.find_modes(CELL, alone, energy=1e-20)
    u = alone.fluctuations.numpy()
    coefficients = np.linalg.lstsq(modes.fluctuations, u.T, rcond=None)[0]
    assert np.abs(modes.fluctuations @ coefficients - u.T).max() < 1e-8 * np.abs(u).max()


def test_stress_modes_are_in_equilibrium(snapshots):
    modes = spon.find_modes(CELL, snapshots, rank=8)
    BZ = CELL.strain_operator @ CELL.Z
    weighted = (CELL.weights[:, None, None] * modes.stresses).reshape(-1, 8)
    scale = np.abs(BZ.T) @ np.abs(weighted)
    assert np.abs(BZ.T @ weighted).max() < 1e-10 * scale.max()


def test_energy_criterion_and_truncation(snapshots, alone):
    held_back = spon.take_snapshots(CELL, spon.latin_hypercube(5, 3, 0.04, seed=8))
    modes = spon.find_modes(CELL, snapshots, energy=1e-6, held_back=held_back)
    r = modes.strains.shape[2]
    assert modes.strain_spectrum[r:].sum() <= 1e-6 < modes.strain_spectrum[r - 1 :].sum()
    assert len(modes.strain_truncation) == r + 1
    for truncation in (modes.strain_truncation, modes.stress_truncation):
        assert truncation[0] == 1
        assert np.all(np.diff(truncation) <= 0)
        assert truncation[-1] < 0.03
    itself = spon.find_modes(CELL, alone, rank=6, held_back=alone)
    assert itself.strain_truncation[-1] ** 2 == pytest.approx(itself.strain_spectrum[6:].sum(), rel=1e-6)


def test_a_homogeneous_cell_has_no_mode():
    cell = GridCell(3, inclusion=GridCell(1).materials[0])
    snapshots = spon.take_snapshots(cell, spon.latin_hypercube(3, 3, 0.04))
    assert spon.find_modes(cell, snapshots).strains.shape == (36, 3, 0)


def test_more_modes_than_snapshots_are_refused(snapshots):
    with pytest.raises(spon.SponError, match=r"9 modes of displacement fluctuations; allowed: 8 at most"):
        spon.find_modes(CELL, snapshots[:2], rank=9)
    with pytest.raises(spon.SponError, match=r"energy = 2; allowed: between 0 and 1"):
        spon.find_modes(CELL, snapshots, energy=2)


def test_weights_below_zero_are_refused(snapshots):
    cell = GridCell(6)
    cell.weights[3] *= -1
    with pytest.raises(spon.SponError, match=r"a quadrature weight of -0\.\d+; allowed: positive"):
        spon.find_modes(cell, snapshots)


class Failing(GridCell):
    """A cell whose Newton method fails in tension."""

    def solve(self, macro_strain, start=None):
        if macro_strain[0, 0] > 0.02:
            raise RVENotConverged("no equilibrium")
        return super().solve(macro_strain, start)


def test_failures_are_recorded_and_left_out(snapshots):
    found = spon.take_snapshots(Failing(6), snapshots.strains)
    bad = snapshots.strains[:, 0] > 0.02
    assert bad.any()
    assert torch.equal(found.failed, snapshots.strains[bad])
    assert torch.equal(found.strains, snapshots.strains[~bad])
    assert torch.equal(found.stresses, snapshots.stresses[~bad])
    with pytest.raises(spon.SponError, match="none of the 2 load cases has an equilibrium"):
        spon.take_snapshots(Failing(2), torch.full((2, 3), 0.03).double())


def test_snapshots_from_a_file_are_the_same(snapshots, tmp_path):
    path = tmp_path / "snapshots.h5"
    snapshots.save(path)
    again = spon.Snapshots.load(path)
    for name in NAMES:
        assert torch.equal(getattr(again, name), getattr(snapshots, name))


def test_older_files_have_no_sensitivities(alone, tmp_path):
    path = tmp_path / "snapshots.h5"
    alone.save(path)
    with h5py.File(path) as file:
        assert file["snapshots"].attrs["format"] == "spon snapshots 1"
    again = spon.Snapshots.load(path)
    assert again.sensitivities is None
    assert again[:3].sensitivities is None
    assert torch.equal(again.fluctuations, alone.fluctuations)


@pytest.mark.mpi
def test_snapshots_do_not_depend_on_the_ranks():
    strains = spon.latin_hypercube(5, 3, 0.03)
    strains[1, 0] = 0.03
    shared = spon.take_snapshots(Failing(4), strains, MPI.COMM_WORLD)
    alone = spon.take_snapshots(Failing(4), strains)
    assert len(alone.failed) > 0
    for name in NAMES:
        assert torch.equal(getattr(shared, name), getattr(alone, name))
