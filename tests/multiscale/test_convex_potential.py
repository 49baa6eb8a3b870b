"""A potential of the macroscopic strain alone: what holds whatever its parameters, and how well it learns."""

import pytest
import torch
from cells import MATRIX, GridCell
from test_imports import WITHOUT_FEM, run_without

import spon

LIMIT = 0.04


def cases(count, seed, limit=LIMIT, size=3):
    return torch.as_tensor(spon.latin_hypercube(count, size, limit, seed))


def relative(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


def drawn(size, seed=0):
    """Parameters as they come."""
    torch.manual_seed(seed)
    root, units = torch.randn(size, size).double(), 30 * torch.randn(5, size, size).double()
    box = LIMIT * torch.tensor([[-1.0], [1.0]]).double().expand(2, size)
    return spon.ConvexPotential(box, root @ root.T, units, torch.rand(5).double(), 0.1)


@pytest.fixture(scope="module")
def reduced():
    cell = GridCell(10)
    return spon.reduce_rve(cell, spon.take_snapshots(cell, cases(24, 0)), rank=6)


@pytest.fixture(scope="module")
def learned(reduced):
    return spon.learn_potential(reduced, units=12, samples=300, iterations=300)


@pytest.mark.parametrize("size", [3, 6])
def test_derivatives_and_convexity_whatever_the_parameters(size):
    model, strain = drawn(size), torch.cat([cases(20, 1, 0.04, size), torch.zeros(1, size).double()])

    def energy(E):
        norm = (model.units @ E).norm(dim=1)
        return 0.5 * E @ model.quadratic @ E + model.scale @ (norm - torch.log1p(norm))

    found = model.respond(strain)
    assert relative(found.stress[:-1], torch.func.vmap(torch.func.grad(energy))(strain[:-1])) < 1e-12
    assert relative(found.tangent[:-1], torch.func.vmap(torch.func.hessian(energy))(strain[:-1])) < 1e-11
    assert torch.equal(found.stress[-1], torch.zeros(size).double())
    assert relative(model.respond(1e-9 * strain).tangent, found.tangent[-1:].expand(21, -1, -1)) < 1e-5
    far = model.respond(torch.cat([strain, 100 * strain]))
    assert torch.linalg.eigvalsh(far.tangent).min() > -1e-12 * far.tangent.abs().max()
    assert torch.equal(far.tangent, far.tangent.mT)


def test_tangent_is_the_difference_of_stresses(learned):
    strain, h = cases(5, 2, 0.03), 1e-6
    found = learned.respond(strain)
    for k, direction in enumerate(torch.eye(3).double()):
        ahead, behind = (learned.respond(strain + s * h * direction).stress for s in (1, -1))
        assert relative((ahead - behind) / (2 * h), found.tangent[:, :, k]) < 1e-6


def test_learns_the_reduced_cell(reduced, learned):
    strain = cases(50, 3)
    found, exact = learned.respond(strain), reduced.respond(strain)
    assert ((found.stress - exact.stress).norm(dim=0) / exact.stress.norm(dim=0)).max() < 0.02
    assert relative(found.tangent, exact.tangent) < 3e-3
    assert torch.linalg.eigvalsh(learned.quadratic).min() > -1e-9 * learned.quadratic.abs().max()
    error = (found.stress - exact.stress).norm(dim=1) / exact.stress.norm(dim=1)
    assert (error < found.indicator).double().mean() >= 0.9


def test_homogeneous_cell_gives_nearly_its_law():
    cell = GridCell(3, inclusion=MATRIX)
    reduced = spon.reduce_rve(cell, spon.take_snapshots(cell, cases(4, 3)))
    model = spon.learn_potential(reduced, units=6, samples=100, iterations=200)
    assert relative(model.respond(cases(6, 4, 0.02)).stress, MATRIX.stress(cases(6, 4, 0.02))) < 1e-3


def test_outside_and_without_local_fields(learned):
    found = learned.respond(torch.cat([cases(2, 5), 3 * learned.box]))
    assert found.indicator.isinf().tolist() == [False, False, True, True]
    assert learned.respond(torch.full((1, 3), torch.nan).double()).failed.all()
    with pytest.raises(spon.SponError, match="ConvexPotential has no local fields"):
        learned.local(cases(1, 5))


def test_a_file_answers_to_the_bit_and_without_dolfinx(learned, tmp_path):
    path, strain = tmp_path / "convex.pt", cases(5, 6)
    learned.save(path)
    found, expected = spon.load_surrogate(path).respond(strain), learned.respond(strain)
    for name in ("stress", "tangent", "indicator", "failed"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    code = f"import spon, torch; print(type(spon.load_surrogate({str(path)!r})).__name__)"
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == "ConvexPotential"
