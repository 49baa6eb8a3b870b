"""Reduced quadrature: what it was made for is exact, and no weight is negative."""

import numpy as np
import pytest
import torch
from cells import GridCell

import spon
from spon.multiscale.cubature import find_cubature
from spon.multiscale.local_fields import LocalFields
from spon.multiscale.newton import minimise


@pytest.fixture(scope="module")
def states():
    """Fields with 5 modes, and states in equilibrium at full quadrature."""
    cell = GridCell(10)
    snapshots = spon.take_snapshots(cell, spon.latin_hypercube(12, 3, 0.04))
    fields = LocalFields.from_modes(cell, spon.find_modes(cell, snapshots, rank=5))
    strains = torch.as_tensor(spon.latin_hypercube(4, 3, 0.04, seed=1))
    found = minimise(fields.potential(), strains, torch.zeros(4, 5).double())
    return fields, strains, found.amplitudes


def test_weights_are_positive_and_sum_to_the_nonlinear_volume(states):
    fields, *_ = states
    cubature = find_cubature(*states)
    assert len(cubature.points) <= 50
    assert (cubature.weights > 0).all()
    nonlinear = fields.phases == 0
    assert nonlinear[cubature.points].all()
    assert cubature.weights.sum().item() == pytest.approx(fields.weights[nonlinear].sum().item(), rel=1e-10)
    assert len(set(cubature.points.tolist())) == len(cubature.points)


def test_integrals_that_it_was_made_for_are_exact(states):
    """With points enough for all of them, forces and condensed tangents at the states agree."""
    fields, strains, amplitudes = states
    cubature = find_cubature(
        *states, points=70
    )  # 4 (8 forces + 3 stresses + 6 tangents) and the volume are 69
    y = torch.cat([strains, amplitudes], 1)
    whole, few = fields.potential(), fields.potential(cubature.points, cubature.weights)
    exact, found = whole.gradient(y), few.gradient(y)
    assert (exact - found).abs().max() < 1e-6 * exact.abs().max()
    H, K = whole.derivatives(y)[1], few.derivatives(y)[1]
    S = torch.cat([torch.eye(3).double().expand(4, 3, 3), -torch.linalg.solve(H[:, 3:, 3:], H[:, 3:, :3])], 1)
    assert (S.mT @ (H - K) @ S).abs().max() < 1e-6 * H[:, :3, :3].abs().max()
    other = fields.potential(*halved(fields))
    assert (exact - other.gradient(y)).abs().max() > 1e-4 * exact.abs().max()


def halved(fields):
    """Every second point with twice the weight: a quadrature that was made for nothing."""
    points = fields.nonlinear_points()[::2]
    return points, 2 * fields.weights[points]


def test_more_points_are_better(states):
    fields, *_ = states
    strains = torch.as_tensor(spon.latin_hypercube(6, 3, 0.04, seed=7))
    start = torch.zeros(6, 5).double()
    exact = minimise(fields.potential(), strains, start).stress
    errors = []
    for points in (35, 60, 120):
        cubature = find_cubature(*states, points=points)
        found = minimise(fields.potential(cubature.points, cubature.weights), strains, start)
        assert found.converged.all()
        errors.append(((found.stress - exact).norm() / exact.norm()).item())
    assert errors[0] < 5e-3
    assert errors[2] < errors[0] / 1.5


def test_where_the_candidates_do_not_do_all_points_are(states, monkeypatch):
    monkeypatch.setattr("spon.multiscale.cubature._CANDIDATES", 1)
    cubature = find_cubature(*states, points=40)
    assert cubature.residual < 1e-6
    assert (cubature.weights > 0).all()


def test_all_points_are_the_full_quadrature(states):
    fields, *_ = states
    cubature = find_cubature(*states, points=10**6)
    assert torch.equal(cubature.points, fields.nonlinear_points())
    assert torch.equal(cubature.weights, fields.weights[cubature.points])


def test_too_few_points_are_warned_of_and_none_refused(states):
    with pytest.warns(UserWarning, match=r"34 points for 5 modes is coarse; 40 advised"):
        find_cubature(*states, points=34)
    with pytest.raises(spon.SponError, match=r"of 0 points; allowed: 1 or more, 40 advised"):
        find_cubature(*states, points=0)


def test_a_quadrature_that_misses_is_an_error(states, monkeypatch):
    def short(rows, target, maxiter):
        return np.zeros(rows.shape[1]), 0.5 * np.linalg.norm(target)

    monkeypatch.setattr("scipy.optimize.nnls", short)
    with pytest.raises(spon.SponError, match=r"misses its integrals by 5e\+01 %; allowed: 0.1 %"):
        find_cubature(*states)
