"""Corrections by learned smoothers: conjugate gradients untrained, never worse whatever they learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square
from equations import LINEAR, beam
from test_processors import randomise

import spon
from spon.evaluation import boundary_error, relative_errors


@pytest.fixture(scope="module", params=LINEAR)
def case(request):
    problem = LINEAR[request.param]()
    backend = "torch" if request.param == "periodic" else "petsc"  # no direct solver for a singular operator
    return problem, spon.generate(problem, 4, seed=3, backend=backend)


def build(data, **settings):
    settings = {"dtype": "float64", "width": 6} | settings
    processor = spon.LearnedCorrection(data.discretisation, **settings)
    processor.use(data.physics)
    return spon.OperatorNetwork(data.discretisation, processor)


def fitted(data, **settings):
    model = build(data, **settings)
    model.fit_normalisation(data.inputs, data.outputs, data.shifts)
    return model


def energy_errors(data, u):
    """(u − output)ᵀ K (u − output) of the sample's own operator."""
    kernel = spon.MultigridSolver(data.discretisation, data.physics).kernel
    e = torch.as_tensor(u - data.outputs)
    return (e * kernel.jacobian(None, torch.as_tensor(data.inputs), e)).sum(dim=1).numpy()


@pytest.mark.parametrize("cycles", [1, 3])
def test_untrained_it_is_conjugate_gradients(case, cycles):
    _, data = case
    solver = spon.MultigridSolver(data.discretisation, data.physics, torch.float64)
    m = torch.as_tensor(data.inputs)
    shift = None if data.shifts is None else torch.as_tensor(data.shifts)
    expected, _ = solver.solve(None, m, 1e-300, maxiter=cycles, shift=shift, strict=False)
    found = fitted(data, cycles=cycles).predict(data.inputs, shift=data.shifts)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-10 * np.abs(data.outputs).max())


def test_boundary_values_of_each_sample_are_taken(dataset):
    """Of u_g that solve nothing, in contrast to those of the notch."""
    m = torch.as_tensor(dataset.inputs[:3])
    shift = torch.as_tensor(np.outer([2.0, -1.0, 0.5], dataset.discretisation.constraint.shift))
    solver = spon.MultigridSolver(dataset.discretisation, dataset.physics)
    expected, _ = solver.solve(None, m, 1e-12, shift=shift)
    found = fitted(dataset, cycles=3)(m, shift).detach()
    assert float((found - expected).abs().max()) < 0.01 * float(expected.abs().max())


def test_no_cycle_makes_the_error_larger_whatever_was_learned(case):
    _, data = case
    whole = randomise(fitted(data, cycles=3), 2.0)
    before = energy_errors(data, start(data))
    for cycles in (1, 2, 3):
        some = fitted(data, cycles=cycles)
        some.processor.cycles = whole.processor.cycles[:cycles]
        after = energy_errors(data, some.predict(data.inputs, shift=data.shifts))
        assert (after <= before * (1 + 1e-10)).all()
        assert (after < before).any()
        before = after


def start(data):
    """u_g."""
    shift = data.discretisation.constraint.shift
    return np.tile(shift, (len(data), 1)) if data.shifts is None else data.shifts


def test_boundary_values_are_exact(case):
    problem, data = case
    u = randomise(fitted(data), 2.0).predict(data.inputs, shift=data.shifts)
    shifts = problem.constraint.shift if data.shifts is None else data.shifts
    rest = u - shifts
    if problem.discretisation.zero_mean is None:
        admissible = (problem.constraint.Z @ problem.constraint.free(rest + problem.constraint.shift).T).T
        assert np.abs(rest - admissible).max() < 1e-12 * np.abs(u).max()
        assert boundary_error(data, u).max() < 1e-12 * np.abs(u).max()


def test_units_and_other_samples_play_no_part(case):
    """Of the coefficient: κ and the load times 1000, the same u."""
    _, data = case
    model = randomise(fitted(data), 0.5)
    u = model.predict(data.inputs, shift=data.shifts)
    tolerance = 1e-9 * np.abs(u).max()
    alone = model.predict(data.inputs[2:3], shift=None if data.shifts is None else data.shifts[2:3])
    np.testing.assert_allclose(alone[0], u[2], atol=tolerance)
    if data.physics.coefficient is not None:
        model.processor.use(replace(data.physics, load=1e3 * data.physics.load))
        np.testing.assert_allclose(model.predict(1e3 * data.inputs, shift=data.shifts), u, atol=tolerance)


def test_gradients_are_those_of_finite_differences(dataset):
    model = randomise(fitted(dataset), 0.3)
    m, y = torch.as_tensor(dataset.inputs[:2]), torch.as_tensor(dataset.outputs[:2])
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(1)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    gradients = torch.autograd.grad((model(m) - y).square().sum(), parameters)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    ends, step = [], 1e-5
    for shift in (step, -2 * step):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(shift * d)
            ends.append(float((model(m) - y).square().sum()))
    assert abs((ends[0] - ends[1]) / (2 * step) - slope) < 1e-5 * abs(slope)
    assert all(bool(g.abs().max() > 0) for g in gradients)


@pytest.mark.parametrize("loss", ["residual", "potential"])
def test_it_learns_without_labels_and_takes_it_to_a_finer_mesh(problem, dataset, loss):
    settings = spon.Training(epochs=8, microbatch=4, learning_rate=1e-2, physics_loss=loss, label_weight=0.0)
    hidden = replace(dataset, outputs=np.zeros_like(dataset.outputs))
    model = build(dataset)
    spon.train(model, hidden, settings)
    finer = Diffusion(on_square(3, 3))
    other = spon.generate(finer, 6, seed=2)
    for here, data in ((model, spon.generate(problem, 6, seed=2)), (None, other)):
        trained = here or model.on(other.discretisation, other.physics)
        before, after = (
            np.sqrt(energy_errors(data, some.predict(data.inputs))).mean() for some in (fitted(data), trained)
        )
        assert after < 0.8 * before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saved_and_loaded_without_any_other_file(dataset, tmp_path, dtype):
    model = randomise(fitted(dataset, dtype=dtype), 0.3)
    spon.save_model(tmp_path / "model.pt", model)
    loaded = spon.load_model(tmp_path / "model.pt")
    np.testing.assert_array_equal(loaded.predict(dataset.inputs), model.predict(dataset.inputs))
    coarser = spon.generate(Diffusion(on_square(3, 1)), 2, seed=5)
    there = loaded.on(coarser.discretisation, coarser.physics)
    assert relative_errors(coarser, there.predict(coarser.inputs), "h1").max() < 0.2


def test_what_does_not_fit_is_refused(dataset):
    d = dataset.discretisation
    processor = spon.LearnedCorrection(d)
    model = spon.OperatorNetwork(d, processor)
    with pytest.raises(spon.SponError, match=r"need equations; call `use\(data.physics\)` first"):
        model.predict(dataset.inputs)
    with pytest.raises(spon.SponError, match="corrections by cycles for no equations; allowed: data with"):
        processor.use(None)
    with pytest.raises(spon.SponError, match="on 1 level; allowed: 2 levels or more"):
        spon.LearnedCorrection(Diffusion(on_square(3, 0)).discretisation)
    for name in ("cycles", "newton", "steps", "width", "roles"):
        with pytest.raises(spon.SponError, match=f"{name} = 0; allowed: >= 1"):
            spon.LearnedCorrection(d, **{name: 0})
    with pytest.raises(spon.SponError, match="dtype float16; allowed: float32, float64"):
        spon.LearnedCorrection(d, dtype="float16")


@pytest.fixture(scope="module")
def bent():
    """The beam under its largest tractions."""
    problem = beam()
    signs = np.array([[1, 1, 1], [-1, 1, 0.5], [0.1, -1, 0.2], [-0.3, 0.2, 0.1]])
    m = problem.amplitude * signs
    solver = spon.MultigridSolver(problem.discretisation, problem.physics())
    return problem, m, solver.solve(None, torch.as_tensor(m), 1e-11)[0].numpy()


def bent_model(problem, **settings):
    processor = spon.LearnedCorrection(problem.discretisation, **{"width": 6, "dtype": "float64"} | settings)
    processor.use(problem.physics())
    return spon.OperatorNetwork(problem.discretisation, processor)


def test_newton_steps_reach_the_solution_of_large_bending(bent):
    problem, m, u = bent
    found = bent_model(problem, newton=16).predict(m)
    np.testing.assert_allclose(found, u, atol=1e-4 * np.abs(u).max())
    alone = bent_model(problem, newton=16).predict(m[1:2])
    np.testing.assert_allclose(alone[0], found[1], atol=1e-8 * np.abs(u).max())
    assert problem.constraint.violation(found).max() < 1e-12 * np.abs(u).max()


def test_no_newton_step_makes_the_potential_larger_whatever_was_learned(bent):
    problem, m, _ = bent
    kernel = spon.MultigridSolver(problem.discretisation, problem.physics()).kernel
    before = np.zeros(len(m))  # of u = 0
    for newton in (1, 2, 4):
        model = randomise(bent_model(problem, newton=newton), 2.0)
        after = kernel.energy(torch.as_tensor(model.predict(m)), torch.as_tensor(m)).numpy()
        assert (after <= before).all()
        assert (after < before).any()
        before = after


def test_gradients_of_newton_steps_are_those_of_finite_differences(bent):
    problem, m, u = bent
    model = randomise(bent_model(problem, newton=2), 0.3)
    m, y = torch.as_tensor(m[:2]), torch.as_tensor(u[:2])
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(1)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    gradients = torch.autograd.grad((model(m) - y).square().sum(), parameters)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    ends, step = [], 1e-5
    for shift in (step, -2 * step):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(shift * d)
            ends.append(float((model(m) - y).square().sum()))
    assert abs((ends[0] - ends[1]) / (2 * step) - slope) < 1e-5 * abs(slope)


def test_units_play_no_part_in_newton_steps(bent):
    """Of forces: moduli and tractions times 1000, the same u."""
    problem, m, u = bent
    model = randomise(bent_model(problem, newton=3), 0.5)
    found, physics = model.predict(m), problem.physics()
    stiff = replace(physics, constants={name: 1e3 * value for name, value in physics.constants.items()})
    model.processor.use(stiff)
    np.testing.assert_allclose(model.predict(1e3 * m), found, atol=1e-9 * np.abs(u).max())


def test_newton_steps_learn_without_labels(bent):
    problem, m, _ = bent
    inputs = np.concatenate([0.1 * m, -0.1 * m])
    data = spon.generate(problem, 8, seed=0, backend="torch", batch_size=8)
    data = replace(data, inputs=inputs, outputs=np.zeros_like(data.outputs))
    settings = {"newton": 2, "cycles": 1}
    model = bent_model(problem, **settings)
    free = spon.Training(
        epochs=6, batch_size=8, microbatch=8, learning_rate=1e-2, physics_loss="potential", label_weight=0.0
    )
    spon.train(model, data, free)
    solver = spon.MultigridSolver(problem.discretisation, problem.physics())
    given = torch.as_tensor(inputs)
    lowest = solver.kernel.energy(solver.solve(None, given, 1e-11)[0], given)
    gaps = [
        float((solver.kernel.energy(torch.as_tensor(some.predict(inputs)), given) - lowest).mean())
        for some in (bent_model(problem, **settings), model)
    ]
    assert 0 <= gaps[1] < 0.9 * gaps[0]


def held(problem, sizes):
    """u_g that pushes the held end along the first axis, by parts of the size of a cell, for each sample."""
    d = problem.discretisation
    points = d.levels[0].points
    cell = np.sort(np.unique(points[:, 0].round(9)))
    u = np.zeros((len(sizes), d.dofs))
    ends = d.constraint.fixed.reshape(-1, points.shape[1])[:, 0]
    pushed = np.outer(sizes, np.full(ends.sum(), cell[1] - cell[0]))
    u.reshape(len(sizes), -1, points.shape[1])[:, ends, 0] = pushed
    return u


def test_newton_steps_take_the_boundary_values_of_each_sample(bent):
    problem, m, _ = bent
    shift = torch.as_tensor(held(problem, (0.3, -0.2, 0.0, 0.1)))
    given = torch.as_tensor(0.2 * m)
    solver = spon.MultigridSolver(problem.discretisation, problem.physics())
    expected, _ = solver.solve(None, given, 1e-11, shift=shift)
    found = bent_model(problem, newton=12)(given, shift).detach()
    fixed = problem.constraint.fixed
    assert torch.equal(found[:, fixed], shift[:, fixed])
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_boundary_values_that_fold_cells_are_refused_in_one_line(bent):
    problem, m, _ = bent
    shift = torch.as_tensor(held(problem, (0.0, 0.0, 1.5, 0.0)))
    with pytest.raises(spon.SponError) as caught:
        bent_model(problem)(torch.as_tensor(m), shift)
    text = (
        "the boundary values of sample 2 of the batch fold cells next to the boundary; allowed: smaller ones"
    )
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_directions_of_negative_curvature_are_taken_downhill(dataset):
    processor = fitted(dataset, cycles=1).processor
    solver, m = processor.solver, torch.as_tensor(dataset.inputs[:3])
    r = solver.reduced(-solver.kernel.residual(solver.shift.expand(3, -1), m))
    action = solver.action(None, m)(None)
    with torch.no_grad():
        down, up = (processor._corrected(solver.prepare(m), a, r) for a in (lambda p: -action(p), action))
    assert bool(((down * r).sum(dim=0) > 0).all())
    torch.testing.assert_close(down, up)


def test_the_size_of_one_sample_is_nothing_to_the_others(dataset):
    """In single precision, where squares of 1e-30 are zero."""
    model = randomise(fitted(dataset, dtype="float32"), 0.5)
    m = torch.as_tensor(dataset.inputs[:2])
    shift = torch.as_tensor(np.outer([1e30, 1.0], dataset.discretisation.constraint.shift))
    found = model(m, shift).detach()[1]
    alone = model(m[1:], shift[1:]).detach()[0]
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-6 * float(alone.abs().max()))


def test_parameters_are_those_of_the_seed_and_no_other_numbers_are_drawn(dataset):
    before = torch.get_rng_state()
    one, same, other = (spon.LearnedCorrection(dataset.discretisation, seed=k) for k in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for p, q in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(p, q)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(p, q) for p, q in pairs)
