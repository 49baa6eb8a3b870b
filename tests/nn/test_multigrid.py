from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import on_square

import spon
from spon.nn.processors.base import Encoded
from spon.nn.processors.multigrid import Multigrid


def random_features(d, batch=2):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(d.dofs, batch, 4, dtype=torch.float64, generator=generator)
    return features, torch.rand(d.dofs, batch, dtype=torch.float64, generator=generator) + 0.5


def encoded(features, kappa):
    """Nodal features and a coefficient alone, which is all that this processor looks at."""
    none = features.new_zeros(features.shape[1], 0)
    return Encoded(features, kappa, none, none)


def randomised(processor):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in processor.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return processor


def renumbered(d, seed=0):
    """The same discretisation with its nodes and cells in another order on every level."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(level.points)) for level in d.levels]
    levels = []
    for k, (level, order) in enumerate(zip(d.levels, orders, strict=True)):
        new = np.argsort(order)
        prolongation = level.prolongation
        if prolongation is not None:
            prolongation = prolongation[order][:, orders[k + 1]]
        levels.append(
            replace(
                level,
                points=level.points[order],
                cells=new[level.cells][rng.permutation(len(level.cells))],
                mass=level.mass[order][:, order],
                stiffness=level.stiffness[order][:, order],
                fixed=level.fixed[order],
                prolongation=prolongation,
            )
        )
    return replace(d, levels=tuple(levels)), orders[0]


@pytest.mark.parametrize("coefficient", [True, False])
def test_equivariant_to_renumbering(problem, coefficient):
    d = problem.discretisation
    other, order = renumbered(d)
    first, second = (
        randomised(Multigrid(x, 4, (4, 6), coefficient=coefficient, dtype="float64")) for x in (d, other)
    )
    features, kappa = random_features(d)
    torch.testing.assert_close(
        second(encoded(features[order], kappa[order])), first(encoded(features, kappa))[order]
    )


def test_coefficient_operator_is_the_assembled_stiffness(problem, rng):
    """K(κ) applied cell by cell is what DOLFINx assembles, with the Jacobi scaling undone."""
    d = problem.discretisation
    processor = Multigrid(d, 4, dtype="float64")
    m = problem.sample(rng)
    x = torch.as_tensor(rng.standard_normal((d.dofs, 1, 1)))
    found = processor.stiffness[0](processor.quadrature(encoded(x, torch.as_tensor(m)[:, None])))
    applied = (found.diagonal[:, :, None] * (found.scaled @ x))[:, 0, 0]
    problem.coefficients.set(m)
    problem.system.assemble()
    stiffness = problem.order.matrix(problem.system.matrix)
    np.testing.assert_allclose(applied.numpy(), stiffness @ x[:, 0, 0].numpy(), atol=1e-12)
    np.testing.assert_allclose(found.diagonal[:, 0].numpy(), stiffness.diagonal(), rtol=1e-12)


def test_coarse_inverse_solves_the_coarse_problem(problem):
    d = problem.discretisation
    processor = Multigrid(d, 4, dtype="float64")
    inverse, level, fixed = processor.grids.operators[-1].inverse, d.levels[-1], d.levels[-1].fixed
    kappa = torch.rand(d.dofs, 3, dtype=torch.float64) + 0.5
    weights = processor.quadrature(encoded(kappa[:, :, None], kappa))
    x = torch.randn(len(level.points), 3, 2, dtype=torch.float64)
    y = inverse(x, inverse.factorise(processor.stiffness[-1](weights).values))
    assert (y[fixed] == 0).all()
    P = d.levels[0].prolongation @ d.levels[1].prolongation
    for sample in range(3):
        fine = d.levels[0].gradient.T @ (
            np.tile(weights[:, sample], 2)[:, None] * d.levels[0].gradient.toarray()
        )
        left = (P.T @ fine @ P @ y[:, sample].numpy())[~fixed]
        right = (level.mass @ x[:, sample].numpy())[~fixed]
        ratio = left / right
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-9)


def test_works_without_fixed_boundaries_and_on_one_level():
    class Free(spon.Problem):
        pass

    for refinements in (0, 1):
        d = Free(on_square(3, refinements), {}).discretisation
        assert (d.cutoff == 1.0).all()
        features, kappa = random_features(d)
        assert torch.isfinite(randomised(Multigrid(d, 4, dtype="float64"))(encoded(features, kappa))).all()


def test_initial_parameters_follow_the_seed_alone(problem):
    d = problem.discretisation
    torch.manual_seed(1)
    first = Multigrid(d, 4, seed=5)
    torch.manual_seed(2)
    second, third = Multigrid(d, 4, seed=5), Multigrid(d, 4, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.lift.weight, third.lift.weight)


def test_bad_types_and_coefficients_are_refused(problem):
    d = problem.discretisation
    with pytest.raises(spon.SponError, match="dtype float16; allowed: float32, float64"):
        Multigrid(d, 4, dtype="float16")
    features, kappa = random_features(d)
    with pytest.raises(spon.SponError, match="not positive definite: κ must be > 0"):
        Multigrid(d, 4, dtype="float64")(encoded(features, -kappa))


@pytest.mark.parametrize("settings", [{"widths": ()}, {"widths": (4, 0)}, {"cycles": 0}])
def test_bad_settings_are_refused(problem, settings):
    with pytest.raises(spon.SponError, match="allowed: widths >= 1, cycles >= 1"):
        Multigrid(problem.discretisation, 4, **settings)
