"""EquiNO: what holds whatever its networks answer, and what training brings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cells import MATRIX, GridCell
from test_imports import WITHOUT_FEM, run_without

import spon
from spon.multiscale.branch import Branch
from spon.multiscale.equino import EquiNO
from spon.multiscale.least_mismatch import least_mismatch
from spon.multiscale.local_fields import LocalFields
from spon.multiscale.modes import find_modes
from spon.multiscale.regression import Regression, fit_branch
from spon.multiscale.unlabelled import Unlabelled, draw_points, sample_weights, train_unlabelled

LIMIT = 0.04
QUICK = {"steps": 300, "refinements": 100, "batch": 32, "strains": 150, "points": 60, "last": 100}


def cases(count, seed, limit=LIMIT):
    return torch.as_tensor(spon.latin_hypercube(count, 3, limit, seed))


def relative(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


@pytest.fixture(scope="module")
def solved():
    cell = GridCell(6)
    return cell, spon.take_snapshots(cell, cases(16, 0)), spon.take_snapshots(cell, cases(12, 1))


@pytest.fixture(scope="module")
def trained(solved):
    cell, snapshots, unseen = solved
    return EquiNO.fit(cell, snapshots, unseen[:6], rank=8, **QUICK)


@pytest.fixture(scope="module")
def untrained(solved):
    cell, snapshots, _ = solved
    return EquiNO.fit(cell, snapshots, rank=8, strains=20, steps=0, refinements=0)


def test_fields_are_compatible_periodic_and_in_equilibrium_whatever_the_parameters(solved, untrained):
    cell = solved[0]
    strain = cases(4, 2)
    strains, stresses = untrained.local(strain)
    BZ = cell.strain_operator @ cell.Z
    weighted = (cell.weights[:, None] * stresses.numpy()).reshape(4, -1).T
    assert np.abs(BZ.T @ weighted).max() < 1e-11 * np.abs(np.abs(BZ).T @ np.abs(weighted)).max()
    mean = torch.einsum("p,bpi->bi", torch.as_tensor(cell.weights), stresses)
    assert relative(untrained.respond(strain).stress, mean) < 1e-13
    # the strains less the macroscopic one are those of periodic displacements
    off = (strains - strain[:, None]).numpy().reshape(4, -1).T
    assert np.abs(off).max() > 1e-4
    fitted = BZ.toarray() @ np.linalg.lstsq(BZ.toarray(), off, rcond=None)[0]
    assert np.abs(fitted - off).max() < 1e-11 * np.abs(off).max()


def test_training_without_labels_reduces_the_error_of_labels(solved, trained, untrained):
    unseen = solved[2][6:]
    before = relative(untrained.local(unseen.strains)[1], unseen.stresses)
    after = relative(trained.local(unseen.strains)[1], unseen.stresses)
    assert after < 0.1 * before
    assert after < 0.05
    assert relative(trained.respond(unseen.strains).stress, unseen.macro_stresses) < 0.05


def test_mismatch_is_that_of_the_definition(solved, trained):
    strain = cases(3, 3)
    strains, stresses = trained.local(strain)
    w, density = trained.fields.weights, trained.fields.leverage()
    points = draw_points(density, 40, 0.5)
    some = torch.rand(40, generator=torch.Generator().manual_seed(0)).double()
    off = (trained.fields.stresses(strains) - stresses).square().sum(2)
    assert relative(trained.mismatch(strain, points, some), off[:, points] @ some) < 1e-12
    many = draw_points(density, 50000, 0.5)
    found = trained.mismatch(strain, many, sample_weights(w, density, many))
    assert relative(found, off @ w) < 0.01


def test_least_mismatch_is_stationary_and_no_larger_than_that_of_projected_solutions(solved, untrained):
    cell, unseen, fields = solved[0], solved[2], untrained.fields
    every = torch.arange(len(fields.weights))
    a, b = least_mismatch(fields, unseen.strains, every, fields.weights)

    def mismatch(a, b):
        off = fields.stresses(fields.strains(unseen.strains, a)) - fields.from_amplitudes(b)
        return off.square().sum(2) @ fields.weights

    a.requires_grad_()
    b.requires_grad_()
    least = mismatch(a, b)
    slopes = torch.autograd.grad(least.sum(), (a, b))
    assert slopes[1].norm(dim=1).max() < 1e-10 * b.norm(dim=1).max()
    C = fields.laws[1].tangent(torch.zeros(1, 3).double()).norm()
    assert slopes[0].norm() < 1e-6 * least.sqrt().norm() * C.sqrt()
    local = cell.strains(torch.zeros_like(unseen.strains), unseen.fluctuations)
    others = fields.strain_amplitudes(local), fields.stress_amplitudes(unseen.stresses)
    assert (least <= mismatch(*others)).all()
    assert (least > 0).all()


@pytest.mark.parametrize("part", [1, 3])
def test_least_mismatch_of_a_solution_that_the_modes_span_is_that_solution(solved, part):
    cell, snapshots = solved[0], replace(solved[1], sensitivities=None)
    fields = LocalFields.from_modes(cell, find_modes(cell, snapshots, rank=len(snapshots)))
    points = torch.arange(0, len(fields.weights), part)
    found = least_mismatch(fields, snapshots.strains, points, part * fields.weights[points])
    local = cell.strains(torch.zeros_like(snapshots.strains), snapshots.fluctuations)
    assert relative(found[0], fields.strain_amplitudes(local)) < 1e-6
    assert relative(found[1], fields.stress_amplitudes(snapshots.stresses)) < 1e-6


def test_small_amplitudes_are_fitted_beside_large_ones():
    strain = cases(100, 9)
    shapes = torch.stack([strain[:, 0] / LIMIT, (strain[:, 2] / LIMIT) ** 2], 1)
    target = shapes * torch.tensor([1.0, 1e-2]).double()
    torch.manual_seed(0)
    box = torch.tensor([[-LIMIT] * 3, [LIMIT] * 3]).double()
    branch = Branch(box, target.square().mean(0).sqrt(), (16, 16))
    fit_branch(branch, strain, target, Regression(steps=0, refinements=400), "amplitudes")
    for k in range(2):
        assert relative(branch(strain)[:, k], target[:, k]) < 0.3  # the small one .67 by a plain mean square


def test_tangent_is_the_derivative(trained):
    strain, h = cases(5, 4), 1e-6
    found = trained.respond(strain)
    for k, direction in enumerate(torch.eye(3).double()):
        up, down = (trained.respond(strain + s * h * direction).stress for s in (1, -1))
        assert relative((up - down) / (2 * h), found.tangent[:, :, k]) < 1e-7


def test_homogeneous_cell_is_its_law():
    cell = GridCell(3, inclusion=MATRIX)
    settings = {**QUICK, "steps": 500, "refinements": 300, "points": 4}
    model = EquiNO.fit(cell, spon.take_snapshots(cell, cases(8, 5)), rank=None, **settings)
    assert model.fields.rank == 0
    strain = cases(20, 6)
    stress, tangent = MATRIX.response(strain)
    found = model.respond(strain)
    assert relative(found.stress, stress) < 1e-2
    assert relative(found.tangent, tangent) < 5e-2


def test_indicator_follows_the_local_error_and_covers_the_macroscopic_one(solved, trained):
    unseen = solved[2]
    found = trained.respond(unseen.strains)
    error = (found.stress - unseen.macro_stresses).norm(dim=1) / unseen.macro_stresses.norm(dim=1)
    assert (error <= found.indicator * (1 + 1e-12))[:6].double().mean() >= 0.9  # those it was calibrated on
    local = (trained.local(unseen.strains)[1] - unseen.stresses).flatten(1).norm(dim=1)
    local = local / unseen.stresses.flatten(1).norm(dim=1)
    ratio = found.indicator / trained.factor / local
    assert ((ratio > 0.2) & (ratio < 5)).all()
    assert trained.respond(1.5 * cases(3, 7)).indicator.isinf().any()
    nothing = trained.respond(torch.full((1, 3), torch.nan).double())
    assert nothing.failed.all()
    assert nothing.indicator.isinf().all()


def test_points_come_in_proportion_and_stand_for_the_integral():
    weights = torch.tensor([0.5, 0.1, 0.3, 0.1]).double()
    points = draw_points(weights, 10, 0.5)
    assert torch.equal(points.bincount(minlength=4), torch.tensor([5, 1, 3, 1]))
    assert draw_points(weights, 3, 0.999999).max() < 4
    density = torch.tensor([1.0, 4.0, 2.0, 3.0]).double()
    values = torch.tensor([3.0, -1.0, 2.0, 7.0]).double()
    points = draw_points(density, 10, 0.5)
    found = sample_weights(weights, density, points) @ values[points]
    assert float(found) == pytest.approx(float(weights @ values), rel=1e-14)


def test_points_of_high_stress_are_drawn_more_often(trained):
    share = trained.fields.leverage()
    assert float(share.sum()) == pytest.approx(1.0)
    assert (share >= 0.5 * trained.fields.weights * (1 - 1e-12)).all()
    size = trained.fields.stress_modes.square().sum((1, 2))
    dense = share / trained.fields.weights
    assert torch.corrcoef(torch.stack([size, dense]))[0, 1] > 0.7


def test_training_refuses_what_it_cannot_use(solved):
    with pytest.raises(spon.SponError, match=r"steps = -1; allowed: 0 or more"):
        Unlabelled(steps=-1)
    with pytest.raises(spon.SponError, match=r"learning_rate = 0.0; allowed: positive"):
        Unlabelled(learning_rate=0.0)
    with pytest.raises(spon.SponError, match=r"refinements = -1; allowed: 0 or more"):
        Regression(refinements=-1)
    with pytest.raises(spon.SponError, match=r"batch = 0; allowed: positive"):
        Regression(batch=0)
    cell, snapshots, _ = solved
    with pytest.raises(spon.SponError, match=r"6 stresses at 2 points for 16 modes; allowed: more points"):
        EquiNO.fit(cell, snapshots, rank=8, **{**QUICK, "points": 2})
    with pytest.raises(spon.SponError, match=r"strains = 0; allowed: 1 or more"):
        EquiNO.fit(cell, snapshots, rank=8, strains=0)
    box = torch.tensor([[-LIMIT] * 3, [LIMIT] * 3]).double()
    branch = Branch(box, torch.ones(1).double())
    with pytest.raises(spon.SponError, match=r"the loss became nan; allowed: a smaller learning_rate"):
        train_unlabelled(
            list(branch.parameters()),
            lambda strain, points, weights: branch(strain).sum() * torch.nan,
            torch.ones(4).double(),
            box,
            Unlabelled(steps=2),
        )


def test_a_file_answers_to_the_bit_and_without_dolfinx(trained, tmp_path):
    path, strain = tmp_path / "equino.pt", cases(5, 8)
    trained.save(path)
    found, again = trained.respond(strain), spon.load_surrogate(path).respond(strain)
    for name in ("stress", "tangent", "indicator", "failed"):
        assert torch.equal(getattr(found, name), getattr(again, name))
    code = f"import spon, torch; m = spon.load_surrogate({str(path)!r}); print(m.strain_size)\n"
    code += "print(m.local(torch.full((1, 3), 0.01).double())[1].shape)"
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == "3"
