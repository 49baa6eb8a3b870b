"""Learned amplitudes with one reduced Hessian, against the reduced cell that they were learned from."""

import pytest
import torch
from cells import GridCell
from test_imports import WITHOUT_FEM, run_without

import spon

LIMIT = 0.04


def cases(count, seed, limit=LIMIT):
    return torch.as_tensor(spon.latin_hypercube(count, 3, limit, seed))


def relative(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


class Shifted(torch.nn.Module):
    """Amplitudes of the minimum, with an error of a known size."""

    def __init__(self, reduced, size):
        super().__init__()
        self.reduced, self.size = [reduced], size  # in a list: no submodule

    def forward(self, x):
        reduced = self.reduced[0]
        low, high = reduced.box
        strain = low + (high - low) * (x + 1) / 2
        found = reduced.minimum(strain).amplitudes
        error = found.abs().max() * torch.linspace(-1, 1, reduced.rank).double()
        error = error * (strain.norm(dim=1, keepdim=True) / LIMIT)  # none at rest
        return found + self.size * error - spon.multiscale.reduced.features(strain) @ reduced.guess


@pytest.fixture(scope="module")
def solved():
    cell = GridCell(10)
    return cell, spon.take_snapshots(cell, cases(24, 0)), spon.take_snapshots(cell, cases(20, 1))


@pytest.fixture(scope="module")
def reduced(solved):
    cell, snapshots, held_back = solved
    model = spon.reduce_rve(cell, snapshots, rank=8, held_back=held_back[:10])
    model.tolerance = 1e-12
    return model


@pytest.fixture(scope="module")
def learned(reduced):
    return spon.learn_amplitudes(reduced)


def test_at_the_minimum_it_is_the_reduced_cell(reduced):
    exact, strain = spon.NeuralGalerkin(reduced, Shifted(reduced, 0.0)), cases(7, 2)
    found, expected = exact.respond(strain), reduced.respond(strain)
    assert relative(found.stress, expected.stress) < 1e-12
    assert relative(found.tangent, expected.tangent) < 1e-10
    assert relative(found.indicator, expected.indicator) < 1e-5
    assert not found.failed.any()


@pytest.mark.parametrize(("steps", "order"), [(0, 2), (1, 4)])
def test_order_of_the_correction(reduced, steps, order):
    """Half the error of the amplitudes leaves a quarter of that of the stress; Newton squares once more."""
    strain, exact = cases(7, 2), reduced.minimum(cases(7, 2))
    stresses, tangents = [], []
    for size in (0.02, 0.01, 0.005):
        found = spon.NeuralGalerkin(reduced, Shifted(reduced, size), steps).minimum(strain)
        stresses.append(relative(found.stress, exact.stress))
        tangents.append(relative(found.tangent, exact.tangent))
    for errors, expected in ((stresses, order), (tangents, order / 2)):
        rates = torch.tensor(errors).log2()
        assert (rates[:-1] - rates[1:] - expected).abs().max() < 0.2 * expected
    assert max(stresses) > 1e-12


def test_learned_amplitudes_leave_nothing_to_the_network(solved, reduced, learned):
    _, _, unseen = solved
    found, expected = learned.respond(unseen.strains), reduced.respond(unseen.strains)
    guess = reduced.minimum(unseen.strains).amplitudes
    assert relative(learned.amplitudes(unseen.strains), guess) < 0.01
    assert relative(found.stress, expected.stress) < 1e-5
    assert relative(found.tangent, expected.tangent) < 1e-3
    assert relative(found.stress, unseen.macro_stresses) < 1e-3
    once = spon.NeuralGalerkin(reduced, learned.network, 1)
    assert relative(once.respond(unseen.strains).stress, expected.stress) < 1e-9


def test_tangent_is_symmetric_and_nearly_the_derivative(learned):
    strain, h = cases(5, 5, 0.03), 1e-6
    found = learned.respond(strain)
    for k, direction in enumerate(torch.eye(3).double()):
        ahead, behind = (learned.respond(strain + s * h * direction).stress for s in (1, -1))
        assert relative((ahead - behind) / (2 * h), found.tangent[:, :, k]) < 1e-3
    assert (found.tangent - found.tangent.mT).abs().max() <= 1e-12 * found.tangent.abs().max()
    assert torch.linalg.eigvalsh(found.tangent).min() > 0


def test_indicator_sees_what_the_network_misses(reduced, learned):
    strain = cases(30, 6)
    good, exact = learned.respond(strain).indicator, reduced.respond(strain).indicator
    assert ((good / exact - 1).abs() < 0.2).all()
    wrong = spon.NeuralGalerkin(reduced, Shifted(reduced, 0.3))
    found = wrong.respond(strain)
    error = (found.stress - reduced.respond(strain).stress).norm(dim=1) / found.stress.norm(dim=1)
    assert (found.indicator > 0.3 * error).all()
    assert found.indicator.median() > 10 * exact.median()


def test_at_rest_nothing_is_in_doubt(reduced, learned):
    strain = torch.cat([torch.zeros(1, 3).double(), *(10.0**-k * cases(5, 4) for k in range(8))])
    found = learned.respond(strain)
    assert torch.equal(learned.amplitudes(strain[:1]), torch.zeros(1, learned.rank).double())
    assert found.stress[0].abs().max() == 0
    assert found.indicator[0] == 0
    # rows of a product may differ by round-off
    at_rest = learned.respond(torch.zeros(1000, 3).double()).indicator
    assert at_rest.max() <= 1e-6
    whole = reduced.respond(strain).indicator
    assert (found.indicator <= 1.05 * whole).all()  # relative, also at small strains


def test_strains_outside_are_minimised(reduced, learned):
    strain = torch.cat([cases(3, 7), 3 * cases(4, 8), cases(2, 9)])
    found, expected = learned.respond(strain), reduced.respond(strain)
    outside = reduced.outside(strain)
    assert 0 < outside.sum() < len(strain)
    assert torch.equal(found.indicator.isinf(), outside)
    assert relative(found.stress[outside], expected.stress[outside]) < 1e-12
    assert relative(found.stress[~outside], learned.respond(strain[~outside]).stress) < 1e-13
    assert relative(learned.respond(strain[outside]).stress, expected.stress[outside]) < 1e-12  # none inside
    broken = torch.tensor([[0.01, 0.0, 0.0], [float("nan"), 0.0, 0.0]]).double()
    assert learned.respond(broken).failed.tolist() == [False, True]


def test_local_fields_are_those_of_the_reduced_cell(reduced, learned):
    strain = cases(4, 10)
    for found, expected in zip(learned.local(strain), reduced.local(strain), strict=True):
        assert relative(found, expected) < 1e-4


def test_training_is_reproducible_and_leaves_random_numbers_alone(reduced, learned):
    before = torch.random.get_rng_state()
    again = spon.learn_amplitudes(reduced)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(again.network[0].weight, learned.network[0].weight)


def test_fit_from_snapshots(solved):
    cell, snapshots, held_back = solved
    model = spon.NeuralGalerkin.fit(cell, snapshots, held_back[:10], newton_steps=1, rank=4)
    unseen = held_back[10:]
    found = model.respond(unseen.strains)
    error = (found.stress - unseen.macro_stresses).norm(dim=1) / unseen.macro_stresses.norm(dim=1)
    assert (model.rank, model.newton_steps) == (4, 1)
    assert (found.indicator > 0.5 * error).all()


def test_a_file_answers_to_the_bit_and_without_dolfinx(learned, tmp_path):
    path, strain = tmp_path / "neural.pt", cases(5, 11)
    learned.save(path)
    again = spon.load_surrogate(path)
    found, expected = again.respond(strain), learned.respond(strain)
    for name in ("stress", "tangent", "indicator", "failed"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    code = f"import spon, torch; m = spon.load_surrogate({str(path)!r}); print(type(m).__name__)"
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == "NeuralGalerkin"


def test_number_of_steps(reduced, learned):
    with pytest.raises(spon.SponError, match="newton_steps = 3; allowed: 0, 1, 2"):
        spon.NeuralGalerkin(reduced, learned.network, 3)
    with pytest.raises(spon.SponError, match="0 strains"):
        spon.learn_amplitudes(reduced, samples=0)
