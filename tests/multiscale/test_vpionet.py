"""The variational DeepONet: bounds that hold whatever it learned, and its derivative."""

import numpy as np
import pytest
import torch
from cells import MATRIX, GridCell
from test_imports import WITHOUT_FEM, run_without

import spon
from spon.multiscale.trunk import StrainModes, Trunk, node_features
from spon.multiscale.unlabelled import in_box
from spon.multiscale.vpionet import VariationalDeepONet

LIMIT = 0.04
QUICK = {"points": 100, "strains": 30}


def cases(count, seed, limit=LIMIT):
    return torch.as_tensor(spon.latin_hypercube(count, 3, limit, seed))


def relative(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


@pytest.fixture(scope="module")
def solved():
    cell = GridCell(6)
    return cell, spon.take_snapshots(cell, cases(8, 0))


def potential(model, strain, strains):
    values = model.fields.potentials(strains)
    return values @ model.fields.weights


@pytest.fixture(scope="module")
def trained(solved):
    cell, snapshots = solved
    return VariationalDeepONet.fit(cell, snapshots, rank=6, steps=300, refinements=100, **QUICK)


@pytest.mark.parametrize("steps", [0, 300])
def test_potential_is_never_below_the_finite_element_minimum(solved, trained, steps):
    cell, snapshots = solved
    model = trained if steps else VariationalDeepONet.fit(cell, snapshots, rank=6, steps=0, refinements=0)
    strain = snapshots.strains
    least = potential(model, strain, cell.strains(strain, snapshots.fluctuations))
    found = potential(model, strain, model.local(strain)[0])
    uniform = potential(model, strain, strain[:, None].expand(-1, len(cell.weights), -1))
    assert (found >= least * (1 - 1e-12)).all()
    if steps:
        assert ((found - least) < 0.05 * (uniform - least)).all()


def test_displacements_are_periodic_and_have_the_strains(solved, trained):
    cell = solved[0]
    strain = cases(4, 2)
    u = trained.fluctuation(strain)
    strains = cell.strains(strain, u.detach())
    assert relative(trained.local(strain)[0], strains) < 1e-12
    m = int(np.sqrt(len(cell.node_coordinates)))
    grid = u.detach().reshape(4, m, m, 2)
    assert (grid[:, 0] - grid[:, -1]).abs().max() < 1e-13 * grid.abs().max()
    assert (grid[:, :, 0] - grid[:, :, -1]).abs().max() < 1e-13 * grid.abs().max()
    assert grid.std() > 0


def test_features_of_nodes_are_periodic_and_tell_phases_apart():
    cell = GridCell(12)
    features = node_features(cell)
    m = int(np.sqrt(len(features)))
    grid = features.reshape(m, m, -1)
    assert (grid[0] - grid[-1]).abs().max() < 1e-12
    assert (grid[:, 0] - grid[:, -1]).abs().max() < 1e-12
    inner = torch.zeros(m, m, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    for phase, distance in enumerate(features[:, -2:].T):
        rows = cell.strain_operator[np.repeat(cell.phases == phase, 3)]
        touched = torch.isin(torch.arange(m * m), torch.as_tensor(rows.indices // 2))
        assert (distance[touched] == 0).all()
        away = inner.flatten() & ~touched
        assert away.any()
        assert (distance[away] > 0).all()


def test_training_does_not_fit_a_part_of_the_points_alone(solved):
    cell, snapshots = solved
    model = VariationalDeepONet.fit(cell, snapshots, rank=6, steps=0, refinements=200, strains=20, points=20)
    strain = in_box(model.box, 20, 0)
    least = potential(model, strain, cell.strains(strain, cell.solve(strain).fluctuation))
    found = potential(model, strain, model.local(strain)[0])
    assert (found >= least * (1 - 1e-12)).all()
    assert (found / least - 1).mean() < 0.02


def test_strains_at_some_points_are_those_rows_of_the_whole(solved):
    cell = solved[0]
    features = node_features(cell)
    trunk = Trunk(features.shape[1], torch.ones(2).double(), 4)
    at = StrainModes(cell, features, trunk)
    u = trunk(features).flatten(0, 1).detach().numpy()
    whole = torch.as_tensor(cell.strain_operator @ u).reshape(len(cell.weights), 3, 4)
    for points in ([0, 5, 5, 17], [40, 3], range(len(whole))):
        points = torch.tensor(list(points))
        assert relative(at(points), whole[points]) < 1e-13


def test_training_brings_the_stress_nearer(solved, trained):
    cell, snapshots = solved
    untrained = VariationalDeepONet.fit(cell, snapshots, rank=6, steps=0, refinements=0)
    unseen = spon.take_snapshots(cell, cases(6, 3))
    before, after = (
        relative(m.respond(unseen.strains).stress, unseen.macro_stresses) for m in (untrained, trained)
    )
    assert after < 0.5 * before
    assert after < 0.05


def test_tangent_is_the_derivative_of_the_mean_stress(trained):
    strain, h = cases(5, 4), 1e-6
    found = trained.respond(strain)
    assert relative(found.stress, trained.fields.average(trained.local(strain)[1])) < 1e-13
    for k, direction in enumerate(torch.eye(3).double()):
        up, down = (trained.respond(strain + s * h * direction).stress for s in (1, -1))
        assert relative((up - down) / (2 * h), found.tangent[:, :, k]) < 1e-7


def test_homogeneous_cell_is_nearly_its_law():
    cell = GridCell(3, inclusion=MATRIX)
    snapshots = spon.take_snapshots(cell, cases(4, 5))
    model = VariationalDeepONet.fit(cell, snapshots, rank=2, steps=300, refinements=50, **QUICK)
    stress, tangent = MATRIX.response(cases(6, 6))
    found = model.respond(cases(6, 6))
    assert relative(found.stress, stress) < 1e-2
    assert relative(found.tangent, tangent) < 5e-2


def test_no_error_is_claimed_to_be_known(trained):
    low, high = trained.box
    strain = torch.stack([(low + high) / 2, low + 2 * (high - low)])
    indicator = trained.respond(strain).indicator
    assert indicator[0].isnan()
    assert indicator[1] == torch.inf
    law = spon.MaterialModel(MATRIX)
    for threshold, expected in ((1.0, [True, True]), (torch.inf, [False, True])):
        assert spon.WithFallback(trained, law, threshold).respond(strain).fallback.tolist() == expected


def test_a_file_answers_to_the_bit_and_without_dolfinx(trained, tmp_path):
    path, strain = tmp_path / "vpionet.pt", cases(25, 8)
    trained.save(path)
    found, again = trained.respond(strain), spon.load_surrogate(path).respond(strain)
    for name in ("stress", "tangent", "failed"):
        assert torch.equal(getattr(found, name), getattr(again, name))
    result = run_without(WITHOUT_FEM, f"import spon; print(spon.load_surrogate({str(path)!r}).strain_size)")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == "3"
    with pytest.raises(spon.SponError, match=r"0 products; allowed: 1 or more"):
        VariationalDeepONet.fit(None, None, rank=0)
