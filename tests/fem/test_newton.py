"""Newton's method on û: known solutions, quadratic convergence, load steps, failures."""

import numpy as np
import pytest
import ufl
from dolfinx import fem, la
from mpi4py import MPI
from test_canonical import shuffled
from test_convergence import check_rates, norm
from test_solver import X, Y, curls, wavy
from ufl import div, dot, grad, inner

import spon
from meshes import box, mapped
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD
SIDES = ("left", "right", "bottom", "top")


def on_mesh(n, cell="triangle", move=wavy):
    return TaggedMesh(mapped(shuffled(box(cell, n)), move), WORLD)


def conduction(f, flux=None):
    """−div((1 + u²) ∇u) = f."""
    load = lambda v: f * v * ufl.dx(degree=8) + (0 if flux is None else flux * v * ufl.ds(degree=8))  # noqa: E731
    return lambda u, v: (1 + u**2) * inner(grad(u), grad(v)) * ufl.dx(degree=8) - load(v)


@pytest.mark.mpi
@pytest.mark.parametrize(("degree", "n"), [(1, 12), (2, 6)])
def test_nonlinear_conduction_converges_at_its_rate(degree, n):
    def problem(mesh):
        V = fem.functionspace(mesh.dolfinx, ("Lagrange", degree))
        x, normal = ufl.SpatialCoordinate(mesh.dolfinx), ufl.FacetNormal(mesh.dolfinx)
        exact = ufl.sin(2 * x[0] + x[1]) + x[1] ** 2
        q = (1 + exact**2) * grad(exact)
        ends = dict.fromkeys(("left", "right", "bottom"), lambda x: np.sin(2 * x[0] + x[1]) + x[1] ** 2)
        F = conduction(-div(q), dot(q, normal))
        with spon.NewtonSolver(CanonicalOrder(mesh, V), spon.dirichlet(mesh, V, ends), F) as solver:
            solver.solve()
            return norm(solver.function - exact), norm(grad(solver.function - exact))

    check_rates(problem, n, (degree + 1, degree))


@pytest.mark.mpi
def test_the_last_steps_converge_quadratically():
    mesh = on_mesh(6)
    V = spon.lagrange(mesh, 2)
    constraint = spon.dirichlet(mesh, V, {"left": 0.0, "right": 1.0})
    with spon.NewtonSolver(CanonicalOrder(mesh, V), constraint, conduction(5.0)) as solver:
        solver.solve()
        norms = np.array(solver.statistics.norms)
    norms = norms[norms > 1e-12 * norms[0]]
    orders = np.diff(np.log(norms[1:])) / np.diff(np.log(norms[:-1]))  # ln(e₃/e₂)/ln(e₂/e₁)
    assert len(norms) >= 4
    assert orders[-1] > 1.7


def neo_hookean(u, v):
    """First variation of ½ (tr FᵀF − d − 2 ln J) + 1.5 ln² J, in units of the shear modulus."""
    F = ufl.Identity(len(u)) + grad(u)
    J = ufl.det(F)
    energy = 0.5 * (inner(F, F) - len(u) - 2 * ufl.ln(J)) + 1.5 * ufl.ln(J) ** 2
    return ufl.derivative(energy * ufl.dx(degree=4), u, v)


@pytest.mark.mpi
@pytest.mark.parametrize(("cell", "n", "degree"), [("triangle", 4, 2), ("tetrahedron", 2, 1)])
def test_affine_boundary_displacement_gives_a_homogeneous_deformation(cell, n, degree, rng):
    mesh = on_mesh(n, cell)
    d = mesh.arrays.points.shape[1]
    V = fem.functionspace(mesh.dolfinx, ("Lagrange", degree, (d,)))
    A = np.array([[0.3, 0.4, 0.1], [0.0, -0.2, 0.1], [0.1, 0.0, 0.1]])[:d, :d]
    constraint = spon.dirichlet(mesh, V, dict.fromkeys(mesh.arrays.facet_names, lambda x: A @ x[:d]))
    order = CanonicalOrder(mesh, V)
    exact = (order.canonical.nodes @ A.T).ravel()
    noise = 0.004 * rng.standard_normal(order.size)
    with spon.NewtonSolver(order, constraint, neo_hookean) as solver:
        for guess in (None, exact + noise):
            u = order.gather(solver.solve(guess=guess))
            np.testing.assert_allclose(u, exact, atol=1e-10)
        assert solver.statistics.iterations >= 2  # from the noisy guess
        np.testing.assert_array_equal(u[constraint.fixed], constraint.shift[constraint.fixed])


def squeezed(mesh):
    V = fem.functionspace(mesh.dolfinx, ("Lagrange", 1, (2,)))
    return CanonicalOrder(mesh, V), spon.dirichlet(mesh, V, {"bottom": 0.0, "top": (0.2, -0.4)})


@pytest.mark.mpi
def test_load_steps_and_halved_ones_lead_to_the_same_state():
    order, constraint = squeezed(on_mesh(5))
    found, statistics = [], []
    for options, steps in (({}, 1), ({}, 4), ({"snes_max_it": 2}, 1)):
        with spon.NewtonSolver(order, constraint, neo_hookean, options=options) as solver:
            found.append(order.gather(solver.solve(steps=steps)))
            statistics.append(solver.statistics)
    for u in found[1:]:
        np.testing.assert_allclose(u, found[0], atol=1e-9)
    assert statistics[1].steps == 4
    assert statistics[2].bisections > 0
    assert statistics[2].steps > 1
    assert all(s.reason.startswith("CONVERGED") and s.seconds > 0 for s in statistics)


@pytest.mark.mpi
def test_samples_do_not_depend_on_those_before_and_a_solution_is_its_own_guess():
    order, constraint = squeezed(on_mesh(4))
    with spon.NewtonSolver(order, constraint, neo_hookean) as solver:
        for shift in (0.5 * constraint.shift, constraint.shift):
            u = order.gather(solver.solve(shift=shift))
        again = order.gather(solver.solve(guess=u))
        assert solver.statistics.iterations <= 1
    with spon.NewtonSolver(order, constraint, neo_hookean) as solver:
        fresh = order.gather(solver.solve())
    np.testing.assert_allclose(u, fresh, atol=1e-12)
    np.testing.assert_allclose(again, fresh, atol=1e-9)


@pytest.mark.mpi
@pytest.mark.parametrize("value", [0.0, 1.5])
def test_a_linear_problem_takes_one_step(value):
    mesh = on_mesh(5)
    V = spon.lagrange(mesh)
    order, constraint = CanonicalOrder(mesh, V), spon.dirichlet(mesh, V, {"left": value})
    F = lambda u, v: (inner(grad(u), grad(v)) - 3.0 * v) * ufl.dx  # noqa: E731
    with spon.NewtonSolver(order, constraint, F) as solver:
        u = order.gather(solver.solve())
        assert solver.statistics.iterations == 1
    test, trial = ufl.TestFunction(V), ufl.TrialFunction(V)
    a, L = inner(grad(trial), grad(test)) * ufl.dx, 3.0 * test * ufl.dx
    expected = order.gather(spon.solve(order, a, L, constraint).x.array)
    np.testing.assert_allclose(u, expected, atol=1e-12)


def periodic_field(mesh):
    V = spon.lagrange(mesh, 2)
    return V, spon.periodic(mesh, V, [X, Y])


@pytest.mark.mpi
@pytest.mark.parametrize("case", [curls, periodic_field], ids=["curls", "periodic"])
def test_the_reduced_residual_vanishes_for_every_kind_of_constraint(case):
    mesh = on_mesh(4)
    V, constraint = case(mesh)
    order = CanonicalOrder(mesh, V)
    x = ufl.SpatialCoordinate(mesh.dolfinx)

    def form(u, v):
        f = ufl.as_vector((x[1], 2.0)) if u.ufl_shape else 3.0 + x[0]
        return (1 + inner(u, u)) * inner(u, v) * ufl.dx - inner(f, v) * ufl.dx

    jacobian = lambda u, du, v: ufl.derivative(form(u, v), u, du)  # noqa: E731
    with spon.NewtonSolver(order, constraint, form, jacobian, {"snes_rtol": 1e-11}) as solver:
        u = order.gather(solver.solve())
        scale, *_, last = solver.statistics.norms
        live = fem.assemble_vector(fem.form(form(solver.function, ufl.TestFunction(V))))
        live.scatter_reverse(la.InsertMode.add)
    left = constraint.Z.T @ order.gather_dual(live.array)
    assert np.linalg.norm(left) == pytest.approx(last, abs=1e-14)
    assert last <= 1e-11 * scale
    assert np.abs(u).max() > 0.1
    assert constraint.violation(u[None])[0] <= 1e-13


@pytest.mark.mpi
def test_a_load_that_has_no_solution_is_one_line_with_the_load_reached():
    """−Δu = λ eᵘ on the unit square has no solution for λ > 6.808."""
    mesh = on_mesh(6, move=lambda x: list(x))
    V = spon.lagrange(mesh, 2)
    strength = fem.Constant(mesh.dolfinx, 0.0)
    F = lambda u, v: inner(grad(u), grad(v)) * ufl.dx - strength * ufl.exp(u) * v * ufl.dx(degree=4)  # noqa: E731

    def load(t):
        strength.value = 10.0 * t

    constraint = spon.dirichlet(mesh, V, dict.fromkeys(SIDES, 0.0))
    with spon.NewtonSolver(CanonicalOrder(mesh, V), constraint, F, load=load) as solver:
        with pytest.raises(spon.SponError, match=r"did not converge: DIVERGED_\w+ after") as caught:
            solver.solve()
        message = str(caught.value)
        assert "\n" not in message
        reached = float(message.split("load reached: ")[1].split(",")[0])
        assert 0.64 < reached < 0.6875  # multiples of 1/64


@pytest.mark.mpi
def test_bad_arguments_are_named():
    order, constraint = squeezed(on_mesh(3))
    with pytest.raises(spon.SponError, match="a constraint on 3 DoFs"):
        spon.NewtonSolver(order, spon.Constraint.none(3), neo_hookean)
    with pytest.raises(spon.SponError, match="PETSc refuses the options"):
        spon.NewtonSolver(order, constraint, neo_hookean, options={"pc_type": "nonsense"})
    with pytest.raises(spon.SponError, match=r"bisections = -1; allowed: >= 0"):
        spon.NewtonSolver(order, constraint, neo_hookean, bisections=-1)

    def load(t):
        if WORLD.rank == WORLD.size - 1:
            raise spon.SponError("no such load")

    with spon.NewtonSolver(order, constraint, neo_hookean, load=load) as solver:
        with pytest.raises(spon.SponError, match="steps = 0; allowed: >= 1"):
            solver.solve(steps=0)
        with pytest.raises(spon.SponError, match=r"guess of shape \(3,\); allowed: "):
            solver.solve(guess=np.zeros(3))
        with pytest.raises(spon.SponError, match=r"shift of shape .*, finite"):
            solver.solve(shift=np.full(order.size, np.nan))
        with pytest.raises(spon.SponError, match="no such load"):
            solver.solve()
