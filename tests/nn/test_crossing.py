"""Networks on other meshes, their guesses and their choices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square

import spon
from meshes import mapped
from spon.evaluation import relative_errors
from spon.fem.mesh import TaggedMesh
from spon.nn.norms import GramNorm, relative_error


@pytest.fixture(scope="module")
def equations(problem):
    return problem.verified_physics


def build(d, guess="none", centre=False, physics=None, **settings):
    settings = {"widths": (6, 8), "cycles": 1, "dtype": "float64"} | settings
    processor = spon.Multigrid(d, guess=guess, **settings)
    processor.use(physics)
    return spon.OperatorNetwork(d, processor, "log", centre=centre)


def h1(model, data):
    return relative_errors(data, model.predict(data.inputs), "h1").mean()


def test_a_network_runs_on_a_finer_mesh_with_a_similar_error(problem, dataset):
    model = build(problem.discretisation, widths=(8, 12))
    spon.train(model, dataset, spon.Training(epochs=20, learning_rate=1e-2))
    finer = Diffusion(on_square(3, 3))
    data = spon.generate(finer, 8, seed=2)
    here, there = h1(model, spon.generate(problem, 8, seed=2)), h1(model.on(finer.discretisation), data)
    assert there < 1.5 * here
    assert there < 0.75 * relative_errors(data, 0 * data.outputs + data.outputs.mean(axis=0), "h1").mean()


def test_a_start_by_cycles_crosses_to_a_finer_mesh(problem, dataset, equations):
    """What was learned on one mesh improves the cycle on the other."""
    model = build(problem.discretisation, "start", physics=equations, widths=(8, 12))
    spon.train(model, dataset, spon.Training(epochs=10, learning_rate=1e-2))
    finer = Diffusion(on_square(3, 3))
    data = spon.generate(finer, 8, seed=2)
    there = finer.verified_physics
    cycle = build(finer.discretisation, "start", physics=there)
    assert h1(model.on(finer.discretisation, there), data) < 0.8 * h1(cycle, data)


def test_a_network_runs_on_another_geometry_with_exact_boundary_values(problem, dataset):
    model = build(problem.discretisation)
    model.fit_normalisation(dataset.inputs, dataset.outputs)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(generator=torch.Generator().manual_seed(0))
    bent = mapped(on_square(4, 0).finest.arrays, lambda x: (2 * x[0] + 0.3 * x[1] ** 2, x[1] + 0.1 * x[0]))
    d = Diffusion(spon.Hierarchy.uniform(TaggedMesh(bent, on_square(1, 0).finest.comm), 2)).discretisation
    view = model.on(d)
    u = view.predict(np.random.default_rng(0).uniform(0.5, 2.0, (3, d.input.dofs)))
    assert u.std(axis=0).max() > 1e-3
    np.testing.assert_array_equal(d.constraint.violation(u), 0.0)
    assert all(p is q for p, q in zip(model.parameters(), view.parameters(), strict=True))


def test_a_network_on_its_own_mesh_is_itself(problem, dataset):
    model = build(problem.discretisation, messages=True, gamma=2)
    spon.train(model, dataset, spon.Training(epochs=1))
    again = model.on(problem.discretisation)
    np.testing.assert_array_equal(again.predict(dataset.inputs), model.predict(dataset.inputs))
    moved = replace(problem.discretisation, levels=tuple(shifted(x) for x in problem.discretisation.levels))
    np.testing.assert_allclose(
        model.on(moved).predict(dataset.inputs), model.predict(dataset.inputs), atol=1e-9
    )


def shifted(level):
    return replace(level, points=level.points + 100.0)


def test_what_cannot_cross_is_refused(problem, dataset):
    d = problem.discretisation
    with pytest.raises(spon.SponError, match=r"mean of the training outputs.*centre=False"):
        build(d, centre=True).on(d)
    with pytest.raises(spon.SponError, match="2 levels; allowed: 3 or more"):
        build(d).on(Diffusion(on_square(3, 1)).discretisation)
    with pytest.raises(spon.SponError, match=r"spaces k \(.*allowed: those of the network, kappa"):
        build(d).on(replace(d, inputs={"k": d.input}))


def test_without_equations_there_is_no_guess(problem):
    d = problem.discretisation
    with pytest.raises(
        spon.SponError, match=r"guess 'feature' needs the equations on its mesh.*`use\(data.physics\)`"
    ):
        spon.OperatorNetwork(d, spon.Multigrid(d, guess="feature")).predict(np.ones((1, d.input.dofs)))
    with pytest.raises(spon.SponError, match=r"no physics: .* allowed: diffusion"):
        spon.Multigrid(d, guess="start").use(None)
    with pytest.raises(spon.SponError, match="guess 'exact' by 1 cycles; allowed: none, feature, start"):
        spon.Multigrid(d, guess="exact")
    with pytest.raises(spon.SponError, match=r"gamma = 3; allowed: 1 \(V-cycle\), 2 \(W-cycle\)"):
        spon.Multigrid(d, gamma=3)


def test_signed_inputs_are_no_coefficients(problem, dataset):
    d = problem.discretisation
    model = spon.OperatorNetwork(d, spon.Multigrid(d, widths=(4,), dtype="float64"))
    model.fit_normalisation(dataset.inputs, dataset.outputs)
    assert bool(model.processor.uses_coefficient)
    signed = dataset.inputs - dataset.inputs.mean()
    model.fit_normalisation(signed, dataset.outputs)
    assert not bool(model.processor.uses_coefficient)
    assert np.isfinite(model.predict(signed)).all()
    again = spon.OperatorNetwork(d, spon.Multigrid(d, widths=(4,), dtype="float64"))
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(again.predict(signed), model.predict(signed))


def test_four_samples_are_learned_by_heart():
    small = Diffusion(on_square(2, 1))
    data = spon.generate(small, 4, seed=3)
    model = build(small.discretisation, widths=(16, 16), centre=True)
    model.fit_normalisation(data.inputs, data.outputs)
    inputs, outputs = (torch.as_tensor(a) for a in (data.inputs, data.outputs))
    norm = GramNorm(small.discretisation, "h1")
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=150, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = relative_error(norm, model(inputs), outputs).square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert h1(model, data) < 1e-3
