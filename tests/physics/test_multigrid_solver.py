"""Multigrid-preconditioned solves of batches: symmetric, independent of the mesh, equal to PETSc's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square
from equations import Periodic, Sheet
from mpi4py import MPI
from test_kernels import Body

import spon
from meshes import box
from spon.data.backends import make_backend
from spon.data.fields import generator
from spon.data.generation import Generation, generate_file
from spon.fem.mesh import TaggedMesh
from spon.physics.kernels.cg import conjugate_gradients

SELF = MPI.COMM_SELF
Elasticity, Hyperelasticity, Notch, Bracket, Darcy = (
    getattr(spon.load_problem(spon.find_problem(f"{name.lower()}.py")), name)
    for name in ("Elasticity", "Hyperelasticity", "Notch", "Bracket", "Darcy")
)


def batch(problem, samples=3):
    return torch.as_tensor(
        np.array([problem.vector(problem.sample(np.random.default_rng(k))) for k in range(samples)])
    )


def solver_of(problem, **more):
    return spon.MultigridSolver(problem.discretisation, problem.physics(), **more)


def on_boxes(kind, cell_type, n, refinements, *arguments):
    return kind(spon.Hierarchy.uniform(TaggedMesh(box(cell_type, n), SELF), refinements), *arguments)


def quads():
    return on_boxes(Diffusion, "quadrilateral", 3, 2)


CASES = {
    "scalar": lambda: Diffusion(on_square(3, 3)),
    "quadrilaterals": quads,
    "algebraic": lambda: Diffusion(on_square(12, 0).coarsened(2)),
    "vector": lambda: Sheet(on_square(3, 2)),
    "vector P2": lambda: Sheet(on_square(3, 1), 2),
    "periodic": lambda: Periodic(on_square(4, 2)),
}


@pytest.fixture(params=CASES, scope="module")
def posed(request):
    return CASES[request.param]()


def test_a_cycle_is_symmetric_and_positive_and_near_the_inverse(posed):
    solver = solver_of(posed, cycle_dtype=torch.float64)
    m = batch(posed, 1)
    n = solver.Z.shape[1]
    cycle, J = solver.prepare(m), solver.action(None, m)(None)
    B = torch.cat([cycle(torch.eye(n, dtype=torch.float64)[:, k : k + 1]) for k in range(n)], dim=1)
    A = torch.cat([J(torch.eye(n, dtype=torch.float64)[:, k : k + 1]) for k in range(n)], dim=1)
    torch.testing.assert_close(B, B.T, rtol=0, atol=1e-12 * float(B.abs().max()))
    values = torch.linalg.eigvalsh(B)
    assert values[0] > 0
    L = torch.linalg.cholesky(B)
    values = torch.linalg.eigvalsh(L.T @ A @ L)
    values = values[1:] if solver.hierarchy.singular else values
    assert values[0] > 0.1
    assert values[-1] < 2.0  # the mean of the coefficient in a cell is not the coefficient


def reference(problem, row):
    """PETSc's solution; of a singular problem, that of least squares with mean zero."""
    mean = problem.discretisation.zero_mean
    if mean is None:
        return problem.solution(row).values
    problem.coefficients.set(row)
    problem.system.assemble()
    Z, A = problem.constraint.Z, problem.order.matrix(problem.system.matrix)
    b = Z.T @ problem.order.gather_dual(problem.system.rhs.array_r)
    return mean(Z @ np.linalg.lstsq((Z.T @ A @ Z).toarray(), b - b.mean(), rcond=1e-12)[0])


def test_solutions_are_petsc_s(posed):
    m = batch(posed)
    posed.solver_options = None
    u, info = solver_of(posed).solve(None, m, 1e-12)
    for k, row in enumerate(m.numpy()):
        expected = reference(posed, row)
        np.testing.assert_allclose(u[k].numpy(), expected, atol=1e-10 * np.abs(expected).max())
    assert (info.reduction <= 1e-12).all()
    assert posed.constraint.violation(u.numpy()).max() < 1e-13 or posed.make_zero_mean() is not None


def test_public_cycle_lives_on_admissible_functions(posed):
    solver, m = solver_of(posed), batch(posed)
    r = torch.randn(3, posed.discretisation.dofs, dtype=torch.float64)
    v = solver.cycle(r, m)
    assert (v[:, posed.constraint.fixed] == 0).all()
    assert ((v * r).sum(dim=1) > 0).all()
    torch.testing.assert_close(solver.cycle(r, m, prepared=solver.prepare(m)), v)
    torch.testing.assert_close(solver.cycle(1e-9 * r, 4 * m), 1e-9 * v / 4, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("make", "allowed"), [(Diffusion, 12), (Sheet, 24)])
def test_iterations_do_not_depend_on_the_mesh(make, allowed):
    counts = []
    for refinements in (2, 4):
        problem = make(on_square(3, refinements))
        counts.append(int(solver_of(problem).solve(None, batch(problem), 1e-10)[1].iterations.max()))
    assert counts[1] <= counts[0] + 3
    assert max(counts) <= allowed


@pytest.mark.parametrize("contrast", [1.0, 1e3])
def test_contrast(contrast):
    problem = Darcy(on_square(4, 3), contrast=(contrast, 1.0))
    u, info = solver_of(problem).solve(None, batch(problem, 2), 1e-12)
    expected = problem.solution(batch(problem, 2)[1].numpy()).values
    np.testing.assert_allclose(u[1].numpy(), expected, atol=1e-10 * np.abs(expected).max())
    assert info.iterations.max() <= (12 if contrast == 1 else 60)


def test_samples_leave_the_batch_and_guesses_help():
    problem = Diffusion(on_square(3, 3))
    solver, m = solver_of(problem), batch(problem, 4)
    m[1] = 1.0
    u, info = solver.solve(None, m, 1e-11)
    assert len(set(info.iterations.tolist())) > 1
    for k in range(4):
        alone, how = solver.solve(None, m[k : k + 1], 1e-11)
        torch.testing.assert_close(alone[0], u[k], rtol=0, atol=1e-9)
        assert abs(int(how.iterations) - int(info.iterations[k])) <= 1
    guess = u.clone()
    guess[2:] += 1e-4 * torch.rand_like(guess[2:])
    again, how = solver.solve(None, m, 1e-11, guess=guess)
    assert (how.iterations[:2] <= 1).all()
    assert (how.iterations[2:] < info.iterations[2:]).all()
    torch.testing.assert_close(again, u, rtol=0, atol=1e-9)


def test_boundary_data_of_each_sample_are_exact():
    problem = Notch.from_mesh(group=SELF, refinements=1)
    m = batch(problem)
    shift = torch.as_tensor(np.array([problem.shift(row) for row in m.numpy()]))
    u, _ = solver_of(problem).solve(None, m, 1e-12, shift=shift)
    fixed = problem.constraint.fixed
    torch.testing.assert_close(u[:, fixed], shift[:, fixed], rtol=0, atol=0)
    for k, row in enumerate(m.numpy()):
        np.testing.assert_allclose(u[k].numpy(), problem.solution(row).values, atol=1e-10)


def beam(**more):
    problem = Hyperelasticity.from_mesh(group=SELF, refinements=0, **more)
    problem.solver_options = {"snes_linesearch_type": "basic", "snes_rtol": 1e-13, "snes_stol": 1e-14}
    return problem


def test_newton_finds_petsc_s_solution():
    problem = beam()
    m = batch(problem)
    m[0] = torch.tensor([6e3, 6e3, 6e3])
    u, info = solver_of(problem).solve(None, m, 1e-12)
    for k, row in enumerate(m.numpy()):
        expected = problem.solution(row).values
        np.testing.assert_allclose(u[k].numpy(), expected, atol=1e-9 * np.abs(expected).max())
    assert (info.newton > 3).all()
    assert (info.load_steps == 2).all()
    _, how = solver_of(problem).solve(None, m, 1e-9, guess=u)
    assert (how.newton <= 1).all()


def test_moduli_of_cells_are_means_of_the_tangent():
    problem = beam()
    kernel = solver_of(problem).kernel
    u = 0.02 * torch.randn(2, problem.discretisation.dofs, dtype=torch.float64)
    m = batch(problem, 2)
    found, tangent = kernel.cell_moduli(u, m), kernel.tangent(*kernel._state(u, m))
    for d in range(3):
        for c in range(3):
            unit = torch.zeros(3, len(kernel.weights), 3, 2, dtype=torch.float64)
            unit[d, :, c] = 1.0
            expected = kernel.cell_mean(tangent(unit).transpose(1, 2)).flatten(0, 1)
            torch.testing.assert_close(found[3 * d + c], expected, rtol=1e-12, atol=1e-9)


def test_from_a_guess_the_residual_is_measured_by_the_energy_of_the_solution():
    problem = Diffusion(on_square(3, 3))
    solver, m = solver_of(problem), batch(problem, 2)
    exact = solver.solve(None, m, 1e-12)[0]
    for factor in (0.0, 0.9, 100.0):
        u, info = solver.solve(None, m, 1e-3, guess=factor * exact + 0.01 * exact.roll(1, 0))
        e = u - exact
        error, size = (((solver.kernel.jacobian(None, m, v) * v).sum(dim=1)).sqrt() for v in (e, exact))
        assert (error <= 1.5e-3 * size).all()
        assert (info.iterations >= 1).all()


def test_load_steps_that_fail_are_halved():
    problem = beam()
    solver = spon.MultigridSolver(problem.discretisation, replace(problem.physics(), load_steps=1))
    m = torch.tensor([[-6e3, 6e3, 2e3], [1.0, 2.0, 3.0]], dtype=torch.float64)
    from spon.physics.kernels import newton

    few = newton._STEPS
    newton._STEPS = 7
    try:
        u, info = solver.solve(None, m, 1e-11)
    finally:
        newton._STEPS = few
    assert info.load_steps.tolist()[1] == 1
    assert info.load_steps[0] > 1
    torch.testing.assert_close(u, solver_of(problem).solve(None, m, 1e-11)[0], rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["diffusion", "plane stress", "neo-hookean"])
def test_gradients_of_a_solve_are_those_of_finite_differences(kind):
    """Taylor remainders of second order, in the inputs, the right-hand side and the boundary data."""
    problem = Body("triangle", 1, 1, kind, "P")
    solver = solver_of(problem)
    _, m = problem.states()
    generator = torch.Generator().manual_seed(3)
    width = sum(s.dofs for n, s in problem.discretisation.inputs.items() if n != "a")
    m[:, :width] *= 0.05
    dofs = problem.discretisation.dofs
    rhs, shift = torch.zeros(2, dofs, dtype=torch.float64), torch.zeros(2, dofs, dtype=torch.float64)
    weights, *directions = (
        torch.randn(s, dtype=torch.float64, generator=generator)
        for s in (rhs.shape, m.shape, rhs.shape, rhs.shape)
    )
    directions[0], directions[1] = 0.2 * m * directions[0], 0.01 * directions[1]
    directions[2] = 0.01 * directions[2] * torch.as_tensor(problem.constraint.fixed)

    def quantity(h, *given):
        r, i, s = (x + h * d for x, d in zip((rhs, m, shift), given, strict=True))
        return (weights * solver.solve(r, i, 1e-13, shift=s)[0]).sum()

    given = directions[1], directions[0], directions[2]
    leaves = [x.clone().requires_grad_() for x in (rhs, m, shift)]
    value = (weights * solver.solve(leaves[0], leaves[1], 1e-13, shift=leaves[2])[0]).sum()
    value.backward()
    for which in range(3):
        only = [d if k == which else torch.zeros_like(d) for k, d in enumerate(given)]
        slope = (leaves[which].grad * given[which]).sum()
        assert abs(slope) > 1e-8
        remainders = [abs(float((quantity(h, *only) - value - h * slope).detach())) for h in (0.5, 0.25)]
        exact = 1e-9 * abs(float(slope))
        assert remainders[0] < exact or remainders[0] / remainders[1] == pytest.approx(4, rel=0.3)


def test_indefinite_operators_are_refused():
    problem = Diffusion(on_square(3, 2))
    solver, m = solver_of(problem), batch(problem, 2)
    m[1] = -m[1]
    with pytest.raises(spon.SponError, match="operator of sample 1 of the batch is not positive definite"):
        solver.solve(None, m)
    cycle = solver.prepare(m.abs())
    A = solver.action(None, m)
    with pytest.raises(spon.SponError, match=r"negative curvature -.* in sample 1 of the batch"):
        conjugate_gradients(
            A, cycle, solver.reduced(torch.ones(2, problem.discretisation.dofs).double()), 1e-8
        )


def test_what_does_not_fit_is_refused():
    problem = Diffusion(on_square(3, 1))
    solver, m = solver_of(problem), batch(problem, 2)
    with pytest.raises(
        spon.SponError, match=r"sample 0 of the batch did not converge: residual .* asked for: 1e-12"
    ):
        solver.solve(None, m, 1e-12, maxiter=2)
    assert not solver.solve(None, m, 1e-12, maxiter=2, strict=False)[1].converged.any()
    with pytest.raises(spon.SponError, match=r"guess of shape \(2, 3\)"):
        solver.solve(None, m, guess=torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(spon.SponError, match="rtol = 0"):
        solver.solve(None, m, 0.0)
    loose = Sheet(on_square(3, 1))
    loose.boundary_values = {"left": (0.0, None)}
    with pytest.raises(spon.SponError, match="allowed: positive coefficients, and supports"):
        solver_of(loose).solve(None, batch(loose, 1))


class Fragile(Diffusion):
    """Sample 2 of seed 0 has a negative conductivity."""

    def sample(self, rng):
        m = super().sample(rng)
        bad = Diffusion.sample(self, generator(0, 2))
        return -m if np.array_equal(m, bad) else m


def test_the_backend_makes_the_data_that_petsc_makes(tmp_path):
    problem = Diffusion(on_square(3, 2))
    expected = spon.generate(problem, 7, seed=4, comm=SELF)
    found = spon.generate(problem, 7, seed=4, comm=SELF, backend="torch", batch_size=3)
    np.testing.assert_allclose(found.outputs, expected.outputs, atol=1e-10)
    assert (found.statistics["iterations"] > 3).all()
    what = Generation(7, seed=4, backend="torch", batch_size=4)
    block = generate_file(problem, tmp_path / "data.h5", what, SELF)
    np.testing.assert_allclose(block.outputs, expected.outputs, atol=1e-10)
    assert spon.Dataset.load(tmp_path / "data.h5").physics is not None


def test_one_bad_sample_does_not_spoil_its_batch():
    fragile = Fragile(on_square(3, 1))
    data = spon.generate(fragile, 5, comm=SELF, backend="torch", batch_size=5)
    assert data.numbers.tolist() == [0, 1, 3, 4]
    assert "not positive definite" in data.failures[0].reason


def test_problems_without_physics_have_no_torch_backend():
    class Silent(Diffusion):
        def physics(self):
            return None

    with pytest.raises(spon.SponError, match="needs the physics of Silent, which names none; allowed: petsc"):
        make_backend("torch", Silent(on_square(2, 1)))
    assert spon.generate(Silent(on_square(2, 1)), 1, comm=SELF).physics is None


@pytest.mark.mpi
def test_a_mesh_on_several_ranks_has_no_torch_backend():
    problem = Diffusion(on_square(3, 1, MPI.COMM_WORLD))
    if MPI.COMM_WORLD.size == 1:
        make_backend("torch", problem)
    else:
        with pytest.raises(spon.SponError, match="ranks per sample; allowed: 1"):
            make_backend("torch", problem)


@pytest.mark.mpi
def test_ranks_share_the_samples_of_the_torch_backend():
    problem = Diffusion(on_square(3, 1))
    data = spon.generate(problem, 5, seed=2, backend="torch", batch_size=2)
    expected = spon.generate(problem, 5, seed=2)
    np.testing.assert_allclose(data.outputs, expected.outputs, atol=1e-10)
