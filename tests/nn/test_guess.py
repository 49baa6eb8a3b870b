"""Guesses by multigrid cycles, for every kernel."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square
from mpi4py import MPI
from test_imports import WITHOUT_FEM, run_without

import spon
from spon.evaluation import boundary_error, relative_errors

CASES = {
    "plate": ("plate", 1, {}),
    "elasticity": ("elasticity", 1, {}),
    "elasticity P2": ("elasticity", 0, {"degree": 2}),
    "bracket": ("bracket", 0, {"degree": 1}),
    "darcy": ("darcy", 1, {}),
    "notch": ("notch", 1, {}),  # boundary data of each sample
    "hyperelasticity": ("hyperelasticity", 0, {"degree": 1}),
}


def make(case):
    """A problem on its own mesh."""
    name, refinements, options = CASES[case]
    cls = getattr(spon.load_problem(spon.find_problem(f"{name}.py")), name.capitalize())
    return cls.from_mesh(group=MPI.COMM_SELF, refinements=refinements, **options)


class Periodic(Diffusion):
    """Nothing is prescribed; the mean is zero."""

    def make_constraint(self):
        return spon.periodic(self.hierarchy.finest, self.space, {"left": "right", "bottom": "top"})

    def make_zero_mean(self):
        return spon.zero_mean(self.order)


@pytest.fixture(scope="module", params=[name for name in CASES if name != "hyperelasticity"])
def case(request):
    """A problem and three samples."""
    problem = make(request.param)
    return problem, spon.generate(problem, 3, seed=1)


def build(discretisation, physics, guess="start", **settings):
    settings = {"widths": (4,), "cycles": 1} | settings
    processor = spon.Multigrid(discretisation, guess=guess, **settings)
    processor.use(physics)
    return spon.OperatorNetwork(discretisation, processor, centre=False)


def known(model, data):
    shifts = None if data.shifts is None else torch.as_tensor(data.shifts)
    return model.processor.known(model._encoded(torch.as_tensor(data.inputs), shifts))


def shift(data):
    return data.discretisation.constraint.shift if data.shifts is None else data.shifts


def test_guesses_converge_to_the_solution_and_are_admissible(case):
    problem, data = case
    d = problem.discretisation
    errors, residuals = [], []
    for cycles in (1, 2, 6):
        model = build(d, data.physics, guess_cycles=cycles)
        found = known(model, data)
        assert found.features.shape[2] == model.processor.known_features == 2 * d.output.components
        u0, residual = found.features.chunk(2, dim=2)
        np.testing.assert_array_equal(u0.transpose(0, 1).flatten(1), found.start)
        assert (found.start[:, d.constraint.fixed] == 0).all()
        assert (residual[torch.as_tensor(d.cutoff[:, 0] == 0)] == 0).all() or d.output.components > 1
        errors.append(relative_errors(data, shift(data) + found.start.numpy(), "h1").max())
        residuals.append(float(residual.abs().max() / u0.abs().max()))
    assert errors[0] < 0.3
    assert errors[1] < max(0.4 * errors[0], 1e-6)
    assert errors[2] < 1e-3
    assert residuals[2] < max(1e-2 * residuals[0], 1e-12)


def test_one_step_leaves_less_energy_than_the_cycle_alone(case):
    problem, data = case
    solver = spon.MultigridSolver(problem.discretisation, data.physics, steps=3)
    m, g = torch.as_tensor(data.inputs), torch.as_tensor(shift(data) + 0 * data.outputs)
    cycle = solver.cycle(-solver.kernel.residual(g, m), m)
    start = known(build(problem.discretisation, data.physics), data).start
    least = solver.kernel.energy(torch.as_tensor(data.outputs), m)
    one, plain, nothing = (solver.kernel.energy(g + part, m) - least for part in (start, cycle, 0.0))
    assert (one <= plain * (1 + 1e-6) + 1e-12 * nothing).all()
    assert (one < 0.1 * nothing).all()
    for length in (0.99, 1.01):  # that of the step is the best
        assert (solver.kernel.energy(g + length * start, m) - least > one).all()


def test_an_untrained_network_is_the_guess(case):
    problem, data = case
    model = build(problem.discretisation, data.physics)
    model.fit_normalisation(data.inputs, data.outputs, data.shifts)
    u = model.predict(data.inputs, shift=data.shifts)
    np.testing.assert_allclose(u, shift(data) + known(model, data).start.numpy(), rtol=1e-12, atol=1e-18)
    assert boundary_error(data, u).max() == 0.0


def test_a_loaded_model_is_the_saved_one(case, tmp_path):
    problem, data = case
    for guess in ("start", "feature"):
        model = build(problem.discretisation, data.physics, guess, guess_cycles=2)
        model.fit_normalisation(data.inputs, data.outputs, data.shifts)
        torch.nn.init.normal_(model.processor.read.weight)
        expected = model.predict(data.inputs, shift=data.shifts)
        assert not any("guess" in name for name in model.state_dict())
        spon.save_model(tmp_path / "model.pt", model)  # no data set
        loaded = spon.load_model(tmp_path / "model.pt")
        np.testing.assert_array_equal(loaded.predict(data.inputs, shift=data.shifts), expected)


def test_a_loaded_model_needs_no_dolfinx_and_says_what_is_damaged(problem, dataset, tmp_path):
    model = build(problem.discretisation, dataset.physics)
    spon.save_model(tmp_path / "model.pt", model)
    np.save(tmp_path / "x.npy", dataset.inputs[:2])
    code = (
        "import numpy, spon\n"
        f"model = spon.load_model({str(tmp_path / 'model.pt')!r})\n"
        f"numpy.save({str(tmp_path / 'y.npy')!r}, model.predict(numpy.load({str(tmp_path / 'x.npy')!r})))\n"
    )
    done = run_without(WITHOUT_FEM, code)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(dataset.inputs[:2]), rtol=1e-10)
    content = spon.read_model(tmp_path / "model.pt")
    torch.save(content | {"equations": torch.arange(9, dtype=torch.uint8)}, tmp_path / "model.pt")
    with pytest.raises(spon.SponError, match=r"model.pt: its equations are damaged"):
        spon.load_model(tmp_path / "model.pt")


def test_learning_improves_the_guess_and_vectors_cross_to_another_mesh():
    def sheet(n, refinements):
        cls = spon.load_problem(spon.find_problem("elasticity.py")).Elasticity
        return cls(on_square(n, refinements))

    problem, finer = sheet(3, 2), sheet(4, 2)
    data, there = spon.generate(problem, 24, seed=1), spon.generate(finer, 8, seed=2)
    model = build(problem.discretisation, data.physics, widths=(8, 12))
    start = relative_errors(data, known(model, data).start.numpy(), "h1").mean()
    spon.train(model, data, spon.Training(epochs=12, learning_rate=1e-2))
    assert relative_errors(data, model.predict(data.inputs), "h1").mean() < 0.6 * start
    fresh = known(build(finer.discretisation, there.physics), there).start.numpy()
    crossed = model.on(finer.discretisation, there.physics).predict(there.inputs)
    errors = [relative_errors(there, u, "h1").mean() for u in (crossed, fresh)]
    assert errors[0] < 0.8 * errors[1]
    with pytest.raises(spon.SponError, match="needs the equations on its mesh"):
        model.on(finer.discretisation).predict(there.inputs)


def test_equal_values_at_periodic_boundaries_and_mean_zero():
    problem = Periodic(on_square(4, 2))
    d, physics = problem.discretisation, problem.physics()
    physics = replace(physics, load=np.cos(2 * np.pi * d.levels[0].points[:, 0]) * d.levels[0].lumped_mass)
    m = np.array([problem.sample(np.random.default_rng(k)) for k in range(3)])
    exact = spon.MultigridSolver(d, physics).solve(None, torch.as_tensor(m), 1e-11)[0].numpy()
    model = build(d, physics, guess_cycles=5)
    u = model.predict(m)
    np.testing.assert_allclose(u, exact, atol=1e-4 * np.abs(exact).max())
    assert np.abs(u @ d.zero_mean.weights).max() < 1e-14


def test_nothing_is_differentiated_and_no_load_is_no_number_that_is_none(problem, dataset):
    d, physics = problem.discretisation, dataset.physics
    model = build(d, physics, guess_cycles=3)
    encoded = model._encoded(torch.as_tensor(dataset.inputs[:2]).requires_grad_(), None)
    found = model.processor.known(encoded)
    assert not found.start.requires_grad
    assert not found.features.requires_grad
    empty = replace(physics, load=np.zeros(d.dofs))
    zero = torch.zeros(2, d.dofs, dtype=torch.float64)
    for model in (build(d, empty, guess_cycles=3), build(d, empty, "feature")):
        u = model(torch.as_tensor(dataset.inputs[:2]), zero)
        np.testing.assert_array_equal(u.detach().numpy(), 0.0)


def test_nonlinear_equations_are_linearised_about_the_undeformed_state():
    """The guess for small loads is the solution, up to terms of second order in them."""
    problem = make("hyperelasticity")
    d, physics = problem.discretisation, problem.verified_physics
    m = torch.as_tensor(np.array([problem.vector(problem.sample(np.random.default_rng(0)))]))
    solver, model = spon.MultigridSolver(d, physics), build(d, physics, guess_cycles=10)
    gaps = []
    for size in (1e-3, 1e-4):
        exact = solver.solve(None, size * m, 1e-8)[0].numpy()
        gap = np.abs(model.predict(size * m.numpy()) - exact).max()
        gaps.append(gap / np.abs(exact).max())
    assert gaps[0] < 1e-2
    assert gaps[1] < 0.2 * gaps[0]


def test_a_sample_of_its_own_boundary_values_is_solved_with_them():
    """Not on the notch, where u_g is the solution: many cycles from zero reach the solve with that u_g."""
    problem = Diffusion(on_square(3, 2))
    d, physics = problem.discretisation, problem.physics()
    raw = np.stack([problem.sample(np.random.default_rng(k)) for k in range(2)])
    right = d.levels[0].points[d.boundary_dofs["right"], 1]
    shifts = d.with_boundary_data(np.stack([1.0 + right, right**2]), "right")
    model = build(d, physics, guess_cycles=12)
    u = model.predict(raw, shift=shifts)  # untrained: u0
    solver = spon.MultigridSolver(d, physics)
    exact, _ = solver.solve(None, torch.as_tensor(raw), rtol=1e-12, shift=torch.as_tensor(shifts))
    assert np.abs(u - exact.numpy()).max() < 1e-4 * np.abs(u).max()
