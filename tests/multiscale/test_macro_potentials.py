"""Potentials of the macroscopic strain alone: what all kinds share, and how well they learn."""

import pytest
import torch
from cells import MATRIX, GridCell
from scipy.stats import spearmanr
from test_imports import WITHOUT_FEM, run_without

import spon
from spon.multiscale.monomials import Monomials

LIMIT = 0.04
KINDS = {  # settings, largest error of a stress component, of the tangent
    "ConvexPotential": ({"units": 12, "iterations": 60}, 5e-3, 2e-3),
    "PolynomialPotential": ({"degree": 12}, 0.02, 3e-3),
    "MLPPotential": ({"width": 12, "iterations": 600}, 0.05, 0.02),
}


def cases(count, seed, limit=LIMIT):
    return torch.as_tensor(spon.latin_hypercube(count, 3, limit, seed))


def relative(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


@pytest.fixture(scope="module")
def reduced():
    cell = GridCell(10)
    return spon.reduce_rve(cell, spon.take_snapshots(cell, cases(24, 0)), rank=6)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def learned(reduced, kind):
    return spon.learn_potential(reduced, kind, samples=300, **KINDS[kind][0])


def test_tangent_is_the_difference_of_stresses_and_symmetric(learned):
    strain, h = cases(5, 2, 0.03), 1e-6
    found = learned.respond(strain)
    assert torch.equal(found.tangent, found.tangent.mT)
    for k, direction in enumerate(torch.eye(3).double()):
        ahead, behind = (learned.respond(strain + s * h * direction).stress for s in (1, -1))
        assert relative((ahead - behind) / (2 * h), found.tangent[:, :, k]) < 1e-6


def test_stress_is_odd(learned):
    strain = torch.cat([cases(9, 2), torch.zeros(1, 3).double()])
    there, back = learned.respond(strain), learned.respond(-strain)
    assert relative(-back.stress, there.stress) < 1e-13
    assert relative(back.tangent, there.tangent) < 1e-13
    assert there.stress[-1].abs().max() < 1e-13 * there.stress.abs().max()


def test_learns_the_reduced_cell(reduced, learned, kind):
    strain = cases(200, 3)
    found, exact = learned.respond(strain), reduced.respond(strain)
    _, stress, tangent = KINDS[kind]
    assert ((found.stress - exact.stress).norm(dim=0) / exact.stress.norm(dim=0)).max() < stress
    assert relative(found.tangent, exact.tangent) < tangent
    error = (found.stress - exact.stress).norm(dim=1) / exact.stress.norm(dim=1)
    assert (error < found.indicator).double().mean() >= 0.9
    assert spearmanr(found.indicator, error).statistic > 0.5
    small = learned.respond(torch.cat([1e-3 * strain, torch.zeros(1, 3).double()])).indicator
    most = learned.reduction + learned.error / learned.least
    torch.testing.assert_close(small.max().item(), most, rtol=1e-14, atol=0)


def test_what_can_be_convex_is_convex_everywhere(learned, kind):
    found = learned.respond(torch.cat([cases(20, 4), cases(20, 5, 20 * LIMIT)]))
    least = torch.linalg.eigvalsh(found.tangent)[:, 0]
    if kind == "PolynomialPotential":
        assert not found.failed[:20].any()
        assert torch.equal(found.failed[20:], least[20:] <= 0)
        assert found.failed[20:].any()
    else:
        assert least.min() > 0
        assert not found.failed.any()


def test_outside_and_without_local_fields(learned, kind):
    found = learned.respond(torch.cat([cases(2, 5), 3 * learned.box]))
    assert found.indicator.isinf().tolist() == [False, False, True, True]
    assert learned.respond(torch.full((1, 3), torch.nan).double()).failed.all()
    with pytest.raises(spon.SponError, match=f"{kind} has no local fields"):
        learned.local(cases(1, 5))


def test_a_file_answers_to_the_bit(learned, tmp_path):
    path, strain = tmp_path / "potential.pt", cases(5, 6)
    learned.save(path)
    found, expected = spon.load_surrogate(path).respond(strain), learned.respond(strain)
    for name in ("stress", "tangent", "indicator", "failed"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_files_need_no_dolfinx(tmp_path):
    box, one = LIMIT * torch.tensor([[-1.0] * 3, [1.0] * 3]).double(), torch.eye(3).double()
    n = torch.ones(3).double()
    potentials = [
        spon.ConvexPotential(box, one, one[None], n[:1], n[:1], 0.1, 0.0, 1.0),
        spon.PolynomialPotential(box, torch.ones(6).double(), n, torch.tensor(2), 0.1, 0.0, 1.0),
        spon.MLPPotential(box, one, one, n, one, n, n, 0.1, 0.0, 1.0),
    ]
    for potential in potentials:
        potential.save(tmp_path / f"{type(potential).__name__}.pt")
    code = "import spon; from pathlib import Path\n"
    code += (
        f"for p in Path({str(tmp_path)!r}).iterdir(): print(type(spon.load_surrogate(p)).__name__ == p.stem)"
    )
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["True"] * 3


@pytest.mark.parametrize("kind", ["PolynomialPotential", "MLPPotential"])
def test_linear_cells_are_exact(kind):
    law = spon.LinearElastic(K=4780.0, G=400.0)
    cell = GridCell(3, matrix=law, inclusion=law)
    reduced = spon.reduce_rve(cell, spon.take_snapshots(cell, cases(4, 3)))
    settings = {"degree": 4} if kind == "PolynomialPotential" else {"width": 2, "iterations": 200}
    model = spon.learn_potential(reduced, kind, samples=50, **settings)
    assert relative(model.respond(cases(6, 4)).stress, law.stress(cases(6, 4))) < 1e-4


@pytest.mark.parametrize("size", [3, 6])
def test_monomials_and_their_derivatives(size):
    monomials = Monomials(size, 6)
    assert len(set(monomials.exponents)) == len(monomials.exponents)
    assert {sum(a) for a in monomials.exponents} == {2, 4, 6}
    powers, x = torch.tensor(monomials.exponents), torch.randn(size).double()

    def value(x):
        return (x**powers).prod(1)

    found = monomials.derivatives(x[:, None])[:, :, 0]
    i, j = torch.triu_indices(size, size)
    assert relative(found[:, :size], torch.func.jacrev(value)(x)) < 1e-12
    assert relative(found[:, size:], torch.func.jacfwd(torch.func.jacrev(value))(x)[:, i, j]) < 1e-12


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("PolynomialPotential", {"degree": 5}, "an even polynomial of degree 5; allowed: 2, 4, 6"),
        (
            "PolynomialPotential",
            {"samples": 2},
            "524 coefficients of degree 16 from 18 labels; allowed: more",
        ),
        ("MLPPotential", {"width": 0}, "hidden layers of 0 units; allowed: 1 or more"),
        ("EquiNO", {}, "a potential 'EquiNO'; allowed: ConvexPotential, PolynomialPotential, MLPPotential"),
    ],
)
def test_wrong_settings_are_refused(reduced, kind, settings, message):
    with pytest.raises(spon.SponError, match=message):
        spon.learn_potential(reduced, kind, **{"samples": 10, **settings})


def test_a_cell_is_reduced_and_learned_in_one_call():
    cell = GridCell(3, inclusion=MATRIX)
    model = spon.PolynomialPotential.fit(
        cell, spon.take_snapshots(cell, cases(4, 3)), learning={"degree": 4, "samples": 60}
    )
    assert int(model.degree) == 4
    assert relative(model.respond(cases(6, 4)).stress, MATRIX.stress(cases(6, 4))) < 0.05
