"""The reduced cell against the full one, and what holds for it whatever it was made of."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from cells import MATRIX, GridCell
from test_imports import WITHOUT_FEM, run_without

import spon
from spon.multiscale.cubature import Cubature
from spon.multiscale.local_fields import LocalFields
from spon.multiscale.modes import Modes
from spon.multiscale.newton import _descend, condense, minimise

LIMIT = 0.04


def cases(count, seed, limit=LIMIT):
    return torch.as_tensor(spon.latin_hypercube(count, 3, limit, seed))


@pytest.fixture(scope="module")
def solved():
    cell = GridCell(10)
    return cell, spon.take_snapshots(cell, cases(24, 0)), spon.take_snapshots(cell, cases(20, 1))


@pytest.fixture(scope="module")
def reduced(solved):
    cell, snapshots, held_back = solved
    return spon.reduce_rve(cell, snapshots, rank=8, held_back=held_back[:10])


def tight(model):
    """The same surrogate, solved to rounding."""
    return spon.ReducedRVE.from_content({**model.content(), "tolerance": 1e-12})


def relative(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


def test_all_modes_and_points_are_the_finite_element_solution():
    """With a basis of all admissible fluctuations nothing is reduced."""
    cell = GridCell(4)
    Z = cell.Z.toarray()
    strains = (cell.strain_operator @ Z).reshape(len(cell.weights), 3, -1)
    nothing = np.zeros(0)
    modes = Modes(Z, strains, np.zeros((len(cell.weights), 3, 1)), *[nothing] * 4, Z.shape[1])
    fields = LocalFields.from_modes(cell, modes)
    points = fields.nonlinear_points()
    whole = Cubature(points, fields.weights[points], 0.0)
    box = torch.tensor([[-LIMIT] * 3, [LIMIT] * 3]).double()
    model = spon.ReducedRVE(fields, fields.rank, whole, whole, torch.zeros(9, fields.rank).double(), box)
    exact = spon.take_snapshots(cell, cases(4, 2))
    found = model.respond(exact.strains)
    assert not found.failed.any()
    assert relative(found.stress, exact.macro_stresses) < 1e-10
    assert relative(found.tangent, exact.tangents) < 1e-5  # of the order of the tolerance
    strains, stresses = model.local(exact.strains)
    assert relative(strains, cell.strains(exact.strains, exact.fluctuations)) < 1e-9
    assert relative(stresses, exact.stresses) < 1e-9
    assert relative(tight(model).respond(exact.strains).tangent, exact.tangents) < 1e-10
    assert found.indicator.max() < 1e-9


def test_few_modes_and_points_come_close(solved, reduced):
    _, _, unseen = solved
    found = reduced.respond(unseen.strains)
    assert len(reduced.cubature.points) <= 80
    assert relative(found.stress, unseen.macro_stresses) < 1e-3
    assert relative(found.tangent, unseen.tangents) < 2e-3
    assert relative(reduced.local(unseen.strains)[1], unseen.stresses) < 0.02


def test_number_of_modes_follows_from_the_energy(solved, monkeypatch):
    cell, snapshots, _ = solved
    needed = spon.find_modes(cell, snapshots, energy=1e-5).rank
    assert 4 < needed < 32
    assert spon.reduce_rve(cell, snapshots).rank == needed
    monkeypatch.setattr("spon.multiscale.reduced._MOST", 4)
    assert spon.reduce_rve(cell, snapshots).rank == 4
    assert spon.reduce_rve(cell, snapshots, energy=1e-5).rank == needed


def test_homogeneous_cell_is_its_law():
    cell = GridCell(3, inclusion=MATRIX)
    model = spon.reduce_rve(cell, spon.take_snapshots(cell, cases(4, 3)))
    strain = cases(6, 4)
    stress, tangent = MATRIX.response(strain)
    found = model.respond(strain)
    assert (found.stress - stress).abs().max() < 1e-12 * stress.abs().max()
    assert (found.tangent - tangent).abs().max() < 1e-12 * tangent.abs().max()
    linear = GridCell(3, matrix=GridCell(1).materials[1])
    model = spon.reduce_rve(linear, spon.take_snapshots(linear, cases(4, 3)))
    stress, tangent = linear.materials[0].response(strain)
    assert (model.respond(strain).stress - stress).abs().max() < 1e-12 * stress.abs().max()


def test_linear_phases_need_no_points():
    stiff, soft = spon.LinearElastic(K=9.0, G=5.0), spon.LinearElastic(K=2.0, G=1.0)
    cell = GridCell(6, matrix=soft, inclusion=stiff)
    snapshots = spon.take_snapshots(cell, cases(5, 3))
    model = spon.reduce_rve(cell, snapshots, energy=1e-12)
    assert len(model.cubature.points) == 0
    assert relative(model.respond(snapshots.strains).tangent, snapshots.tangents) < 1e-10


def test_tangent_is_the_derivative_and_symmetric(reduced):
    reduced = tight(reduced)
    strain = cases(5, 5)
    found = reduced.respond(strain)
    h = 1e-6
    for k, direction in enumerate(torch.eye(3).double()):
        change = (
            reduced.respond(strain + h * direction).stress - reduced.respond(strain - h * direction).stress
        )
        assert relative(change / (2 * h), found.tangent[:, :, k]) < 1e-7
    skew = found.tangent - found.tangent.mT
    assert skew.abs().max() <= 1e-12 * found.tangent.abs().max()
    assert torch.linalg.eigvalsh(found.tangent).min() > 0


def test_stress_is_the_derivative_of_the_least_energy(reduced):
    strain = cases(5, 6)
    h = 1e-5

    def energy(strain):
        return reduced.potential.energy(torch.cat([strain, reduced.minimum(strain).amplitudes], 1))

    for k, direction in enumerate(torch.eye(3).double()):
        slope = (energy(strain + h * direction) - energy(strain - h * direction)) / (2 * h)
        assert relative(slope, reduced.minimum(strain).stress[:, k]) < 1e-6


def test_hessian_by_stored_products_is_that_point_by_point(reduced):
    y = torch.cat([cases(3, 7), reduced.minimum(cases(3, 7)).amplitudes], 1)
    potential = reduced.potential
    gradient, hessian = potential.derivatives(y)
    assert torch.equal(hessian, hessian.mT)
    by_hand = torch.func.vmap(torch.func.hessian(lambda v: potential.energy(v[None])[0]))(y)
    assert relative(hessian, by_hand) < 1e-10
    whole = reduced.fields.leading(reduced.rank).potential()
    stored = whole.derivatives(y)[1]
    whole._products0 = None
    assert relative(whole.derivatives(y)[1], stored) < 1e-12
    assert relative(gradient, potential.gradient(y)) < 1e-14


def test_energy_falls_in_every_step(reduced):
    """From amplitudes far away, where full steps overshoot."""
    strain = cases(8, 8)
    start = 300 * torch.as_tensor(np.random.default_rng(0).standard_normal((8, reduced.rank)))
    potential = reduced.potential
    y = torch.cat([strain, start], 1)
    energies, halved = [potential.energy(y)], False
    for _ in range(12):
        found = condense(*potential.derivatives(y), 3)
        full = torch.cat([y[:, :3], y[:, 3:] + found.step], 1)
        y = _descend(potential, y, found.step, found.decrement)
        halved |= bool((y - full).abs().max() > 0)
        energies.append(potential.energy(y))
    assert halved
    assert all((b <= a + 1e-13 * a.abs()).all() for a, b in pairwise(energies))
    far = minimise(potential, strain, start)
    near = minimise(potential, strain, torch.zeros_like(start))
    assert far.converged.all()
    assert relative(far.stress, near.stress) < 1e-12


def test_answers_do_not_depend_on_the_batch(reduced):
    strain = cases(7, 9)
    together = reduced.respond(strain).stress
    alone = torch.cat([reduced.respond(one[None]).stress for one in strain])
    assert relative(together, alone) < 1e-13
    many = strain.repeat(200, 1)
    assert len(many) > 2 * reduced.batch
    assert relative(reduced.respond(many).stress, together.repeat(200, 1)) < 1e-13
    empty = reduced.respond(strain[:0])
    assert empty.stress.shape == (0, 3)
    assert empty.tangent.shape == (0, 3, 3)


def test_indicator_covers_the_error_and_follows_it(solved, reduced):
    _, _, held_back = solved
    unseen = held_back[10:]
    found = reduced.respond(unseen.strains)
    error = (found.stress - unseen.macro_stresses).norm(dim=1) / unseen.macro_stresses.norm(dim=1)
    ratio = found.indicator / error
    assert ((ratio > 0.7) & (ratio < 30)).all()
    estimate = reduced.estimate(unseen.strains)
    full = estimate.quadrature + reduced.factor * estimate.truncation
    assert relative(full, found.indicator) < 0.3
    local = (reduced.local(unseen.strains)[1] - unseen.stresses).flatten(1).norm(dim=1)
    ratio = estimate.mismatch * unseen.stresses.flatten(1).norm(dim=1) / local
    assert ((ratio > 0.3) & (ratio < 1.5)).all()


def test_quadrature_estimate_is_what_the_full_quadrature_changes(reduced):
    strain = cases(10, 12)
    whole = reduced.fields.leading(reduced.rank).potential()
    few = reduced.respond(strain).stress
    exact = minimise(whole, strain, torch.zeros(10, reduced.rank).double()).stress
    change = (exact - few).norm(dim=1) / few.norm(dim=1)
    assert relative(reduced.estimate(strain).quadrature, change) < 0.3  # first order


def test_strains_outside_are_answered_but_flagged(reduced):
    strain = torch.cat([cases(3, 10), cases(3, 10) + torch.tensor([0.0, 0.0, 0.1]).double()])
    found = reduced.respond(strain)
    expected = torch.tensor([False] * 3 + [True] * 3)
    assert torch.equal(reduced.outside(strain), expected)
    assert torch.equal(found.indicator.isinf(), expected)
    assert torch.isfinite(found.stress).all()
    assert not found.failed.any()
    corners = torch.cartesian_prod(*[torch.tensor([-LIMIT, LIMIT]).double()] * 3)
    assert not reduced.outside(corners).any()  # the box that the snapshots were drawn from


def test_no_answer_is_said(reduced):
    strain = torch.tensor([[0.01, 0.0, 0.0], [float("nan"), 0.0, 0.0]]).double()
    found = reduced.respond(strain)
    assert found.failed.tolist() == [False, True]
    assert found.indicator.isinf().tolist() == [False, True]
    with pytest.raises(spon.SponError, match=r"no equilibrium at the strain \[nan"):
        reduced.local(strain)
    with pytest.raises(spon.SponError, match=r"a strain of 6 components; allowed: 3"):
        reduced.respond(torch.zeros(2, 6).double())


def test_a_file_answers_to_the_bit_and_without_dolfinx(reduced, tmp_path):
    path, strain = tmp_path / "reduced.pt", cases(5, 11)
    reduced.save(path)
    found, again = reduced.respond(strain), spon.load_surrogate(path).respond(strain)
    for name in ("stress", "tangent", "indicator", "failed"):
        assert torch.equal(getattr(found, name), getattr(again, name))
    code = f"import spon, torch; m = spon.load_surrogate({str(path)!r}); print(m.strain_size)\n"
    code += "print(m.local(torch.full((1, 3), 0.01).double())[1].shape)"
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == "3"


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.pt"
    with pytest.raises(spon.SponError, match="no such surrogate"):
        spon.load_surrogate(path)
    path.write_text("nothing")
    with pytest.raises(
        spon.SponError, match=r"not a readable surrogate; allowed: what spon rve train writes$"
    ):
        spon.load_surrogate(path)
    torch.save({"format": 1, "surrogate": "Other", "content": {}}, path)
    with pytest.raises(spon.SponError, match=r"a surrogate 'Other'; allowed: ReducedRVE"):
        spon.load_surrogate(path)
    torch.save({"format": 1, "surrogate": "ReducedRVE", "content": {}}, path)
    with pytest.raises(spon.SponError, match=r"no 'fields' in the surrogate 'ReducedRVE'"):
        spon.load_surrogate(path)
