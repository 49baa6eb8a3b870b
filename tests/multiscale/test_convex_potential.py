"""The convex potential: what holds whatever its parameters, the laws it contains, and its fit."""

import pytest
import torch
from cells import MATRIX, GridCell

import spon
from spon.multiscale.convex_terms import Terms
from spon.multiscale.levenberg_marquardt import levenberg_marquardt
from spon.multiscale.voigt import deviatoric_projection, trace

LIMIT = 0.04


def cases(count, seed, limit=LIMIT, size=3):
    return torch.as_tensor(spon.latin_hypercube(count, size, limit, seed))


def relative(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


def box(size):
    return LIMIT * torch.tensor([[-1.0], [1.0]]).double().expand(2, size)


def drawn(size, seed=0):
    """Parameters as they come."""
    torch.manual_seed(seed)
    root, units = torch.randn(size, size).double(), 30 * torch.randn(5, size, size).double()
    scale, offset = torch.rand(5).double(), torch.tensor([1e-4, 1e-3, 0.1, 1.0, 5.0]).double()
    return spon.ConvexPotential(box(size), root @ root.T, units, scale, offset, 0.1, 0.0, 1.0)


@pytest.mark.parametrize("size", [3, 6])
def test_derivatives_and_convexity_whatever_the_parameters(size):
    model, strain = drawn(size), torch.cat([cases(20, 1, 0.04, size), torch.zeros(1, size).double()])

    def energy(E):
        norm = ((model.units @ E).square().sum(1) + model.offset**2).sqrt()
        return 0.5 * E @ model.quadratic @ E + model.scale @ (norm - torch.log1p(norm))

    found = model.respond(strain)
    assert relative(found.stress, torch.func.vmap(torch.func.grad(energy))(strain)) < 1e-12
    assert relative(found.tangent, torch.func.vmap(torch.func.hessian(energy))(strain)) < 1e-11
    assert torch.equal(found.stress[-1], torch.zeros(size).double())
    far = model.respond(torch.cat([strain, 100 * strain]))
    assert torch.linalg.eigvalsh(far.tangent).min() > -1e-12 * far.tangent.abs().max()


def test_it_contains_the_softening_law():
    one = trace(torch.eye(3).double())
    root = torch.linalg.cholesky(deviatoric_projection(3)).T / MATRIX.alpha2
    scale = torch.tensor([MATRIX.alpha1 * MATRIX.alpha2]).double()
    model = spon.ConvexPotential(
        box(3), MATRIX.K * torch.outer(one, one), root[None], scale, torch.zeros(1).double(), 0.0, 0.0, 1.0
    )
    found, (stress, tangent) = model.respond(cases(20, 1)), MATRIX.response(cases(20, 1))
    assert relative(found.stress, stress) < 1e-13
    assert relative(found.tangent, tangent) < 1e-13


def test_fit_finds_the_law_of_a_homogeneous_cell():
    cell = GridCell(3, inclusion=MATRIX)
    reduced = spon.reduce_rve(cell, spon.take_snapshots(cell, cases(4, 3)))
    model = spon.learn_potential(reduced, units=1, samples=100)
    found, (stress, tangent) = model.respond(cases(6, 4)), MATRIX.response(cases(6, 4))
    assert relative(found.stress, stress) < 1e-5
    assert relative(found.tangent, tangent) < 1e-5


@pytest.mark.parametrize("size", [3, 6])
def test_sensitivities_of_terms_are_differences(size):
    torch.manual_seed(0)
    parameters = torch.randn(4, size * (size + 1) // 2 + 2).double()
    x, direction, h = torch.randn(size, 5).double(), torch.randn_like(parameters), 1e-6
    value, slopes = Terms(parameters).sensitivities(x)
    assert torch.equal(value, Terms(parameters).derivatives(x))
    ahead, behind = (Terms(parameters + s * h * direction).derivatives(x) for s in (1, -1))
    along = torch.einsum("tp,tprs->trs", direction, slopes)
    assert relative(along, (ahead - behind) / (2 * h)) < 1e-7


def test_levenberg_marquardt_on_a_curved_valley():
    """Rosenbrock's function as residuals: minimum 0 at (1, 1)."""

    def residual(z):
        return torch.stack([10 * (z[1] - z[0] ** 2), 1 - z[0]])

    def linearised(z):
        return residual(z), -torch.func.jacrev(residual)(z).T

    z = levenberg_marquardt(residual, linearised, torch.tensor([-1.2, 1.0]).double(), 100)
    assert (z - 1).norm() < 1e-8


def test_no_terms_are_refused():
    cell = GridCell(3)
    reduced = spon.reduce_rve(cell, spon.take_snapshots(cell, cases(6, 3)), rank=2, points=14)
    with pytest.raises(spon.SponError, match="a potential of 0 terms; allowed: 1 or more"):
        spon.learn_potential(reduced, units=0, samples=10)
