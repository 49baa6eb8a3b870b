import numpy as np
import pytest
import torch

import spon
from spon.nn.norms import GramNorm, relative_error


def build(problem, dtype="float64", **settings):
    d = problem.discretisation
    processor = spon.Multigrid(d, widths=(4, 6), dtype=dtype, **settings)
    return spon.OperatorNetwork(d, processor, "log")


def randomise(model, size=1.0):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(size * torch.randn(p.shape, generator=generator))
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_boundary_values_are_exact_whatever_the_parameters(problem, dataset, dtype):
    model = randomise(build(problem, dtype))
    model.fit_normalisation(dataset.inputs, dataset.outputs)
    u = model.predict(dataset.inputs)
    assert np.isfinite(u).all()
    assert u.std(axis=0).max() > 1e-3  # it does depend on the input
    assert problem.constraint.violation(u).max() <= 1e-12 * np.abs(u).max()
    fixed = problem.constraint.fixed
    np.testing.assert_array_equal(u[:, fixed], np.tile(problem.constraint.shift[fixed], (len(u), 1)))


def test_untrained_model_predicts_the_mean_of_the_outputs(problem, dataset):
    model = build(problem)
    model.fit_normalisation(dataset.inputs, dataset.outputs)
    np.testing.assert_allclose(model.predict(dataset.inputs[:2])[1], dataset.outputs.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("coefficient", [True, False])
def test_gradients_agree_with_finite_differences(problem, dataset, coefficient):
    model = randomise(build(problem, coefficient=coefficient), 0.3)
    model.fit_normalisation(dataset.inputs, dataset.outputs)
    m, u = (torch.as_tensor(a[:3]) for a in (dataset.inputs, dataset.outputs))
    norm = GramNorm(problem.discretisation, "h1")
    m.requires_grad_(True)

    def loss():
        return relative_error(norm, model(m), u).sum()

    loss().backward()
    step = 1e-6
    for p in (m, model.processor.lift.weight, model.processor.cycles[0].pre[1].mix.weight):
        direction = torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            p += step * direction
            above = loss()
            p -= 2 * step * direction
            below = loss()
            p += step * direction
        assert (p.grad * direction).sum().item() == pytest.approx(
            ((above - below) / (2 * step)).item(), rel=1e-5
        )


def test_samples_of_a_batch_do_not_mix(problem, dataset):
    model = randomise(build(problem))
    model.fit_normalisation(dataset.inputs, dataset.outputs)
    together = model.predict(dataset.inputs[:5])
    apart = np.concatenate([model.predict(m[None]) for m in dataset.inputs[:5]])
    np.testing.assert_allclose(together, apart, rtol=1e-9, atol=1e-9)


def test_bad_inputs_are_refused(problem):
    model = build(problem)
    n = problem.discretisation.dofs
    with pytest.raises(spon.SponError, match=rf"inputs of shape \(2, 3\); allowed: \(batch, {n}\)"):
        model(torch.ones(2, 3))
    with pytest.raises(spon.SponError, match=r"must be positive .* smallest value: -1"):
        model(-torch.ones(2, n))
    with pytest.raises(spon.SponError, match="transform 'square'; allowed: identity, log"):
        spon.OperatorNetwork(problem.discretisation, model.processor, "square")
    with pytest.raises(spon.SponError, match="norm 'max'; allowed: l2, h1"):
        GramNorm(problem.discretisation, "max")


def test_norms_are_the_integrals(problem):
    x = problem.discretisation.levels[0].points[:, 0]
    u = torch.as_tensor(np.stack([x, np.ones_like(x)]))
    torch.testing.assert_close(
        GramNorm(problem.discretisation, "l2")(u), torch.tensor([3**-0.5, 1.0]).double()
    )
    torch.testing.assert_close(
        GramNorm(problem.discretisation, "h1")(u), torch.tensor([(4 / 3) ** 0.5, 1.0]).double()
    )
