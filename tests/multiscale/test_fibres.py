"""Random fibres: their volume fraction, their distances, and cells that can be solved."""

import numpy as np
import pytest
import torch
from mpi4py import MPI

import spon
from spon.multiscale.fibres import _places

LAWS = {"matrix": spon.LinearElastic(K=2.0, G=1.0), "inclusion": spon.LinearElastic(K=11.0, G=7.0)}


@pytest.mark.parametrize(("fraction", "seed", "radius"), [(0.3, 0, 0.15), (0.45, 4, 0.12), (0.1, 2, 0.2)])
def test_fibres_fill_their_fraction_and_are_periodic(fraction, seed, radius, tmp_path):
    path = tmp_path / "fibres.msh"
    spon.fibre_rve(path, fraction, seed, radius, size=0.08)
    rve = spon.read_rve(path, LAWS, comm=MPI.COMM_SELF)
    assert rve.volume_fraction("inclusion") == pytest.approx(fraction, abs=1e-3)
    assert rve.volume == pytest.approx(1, rel=1e-12)
    C = rve.solve(torch.zeros(1, 3, dtype=torch.float64)).tangent[0]
    bound = (1 - fraction) * LAWS["matrix"].quadratic(3) + fraction * LAWS["inclusion"].quadratic(3)
    assert torch.linalg.eigvalsh(bound - C).min() > -1e-3


def test_the_mesh_depends_on_the_seed_alone(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        spon.fibre_rve(tmp_path / f"{name}.msh", 0.2, seed, 0.2, size=0.15)
    a, b, c = ((tmp_path / f"{name}.msh").read_bytes() for name in "abc")
    assert a == b != c


def test_fibres_keep_their_distance():
    centres = _places(20, 0.08, 0.01, np.random.default_rng(0))
    apart = np.abs(centres[:, None] - centres)
    apart = np.hypot(*np.minimum(apart, 1 - apart).transpose(2, 0, 1))
    assert apart[~np.eye(20, dtype=bool)].min() >= 0.17
    assert np.abs(np.abs(0.5 - np.abs(centres)) - 0.08).min() >= 0.005
    assert np.abs(centres).max() > 0.42  # some cross a side


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"volume_fraction": 0.7}, r"cannot pack 22 fibres of radius 0\.1006 .*; allowed: a lower volume"),
        ({"volume_fraction": 1.2}, r"volume_fraction = 1\.2; allowed: between 0 and 1"),
        ({"radius": -1.0}, r"radius = -1\.0; allowed: between 0 and 0\.4"),
        ({"gap": 0.0}, r"gap = 0\.0; allowed: positive"),
        ({"volume_fraction": 0.85, "radius": 0.39}, "cannot pack 2 fibres|meets itself"),
        ({"path": "cell.vtu"}, r"cell\.vtu: a mesh of gmsh; allowed: \.msh"),
    ],
)
def test_what_is_refused(arguments, message, tmp_path):
    chosen = {"path": tmp_path / "cell.msh", "volume_fraction": 0.3, "seed": 0, **arguments}
    with pytest.raises(spon.SponError, match=message):
        spon.fibre_rve(**chosen)
    assert not list(tmp_path.iterdir())
