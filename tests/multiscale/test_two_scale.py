"""Macroscopic problems: known solutions, equilibrium, Newton's convergence, independence of the ranks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import ufl
from dolfinx import fem
from macros import SOFT, STIFF, WORLD, Partial, cantilever, displacement, on_mesh
from mpi4py import MPI

import spon
from spon.multiscale.macro_points import MacroPoints


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("cell", "degree"), [("triangle", 2), ("quadrilateral", 1), ("tetrahedron", 1), ("hexahedron", 1)]
)
def test_a_linear_law_gives_what_dolfinx_gives(cell, degree):
    mesh = on_mesh(cell)
    d = mesh.arrays.gdim
    with cantilever(mesh, degree) as problem:
        solution = problem.solve(spon.MaterialModel(STIFF, problem.points.size))
    u, v = ufl.TrialFunction(problem.space), ufl.TestFunction(problem.space)
    one = ufl.Identity(d)

    def stress(w):
        e = ufl.sym(ufl.grad(w))
        return (STIFF.K - 2 / 3 * STIFF.G) * ufl.tr(e) * one + 2 * STIFF.G * e

    dx = ufl.dx(degree=problem.points.degree)
    a = ufl.inner(stress(u), ufl.sym(ufl.grad(v))) * dx
    L = 5.0 * v[d - 1] * mesh.ds("right")
    plain = spon.solve(problem.order, a, L, problem.constraint)
    expected = problem.order.gather(plain.x.array)
    assert np.abs(displacement(solution) - expected).max() <= 1e-10 * np.abs(expected).max()
    assert solution.iterations == 1


@pytest.mark.mpi
@pytest.mark.parametrize("cell", ["triangle", "quadrilateral", "tetrahedron", "hexahedron"])
def test_a_homogeneous_strain_is_reproduced(cell, rng):
    mesh = on_mesh(cell, 2)
    d = mesh.arrays.gdim
    G = 0.03 * rng.normal(size=(d, d))
    sides = dict.fromkeys(mesh.arrays.facet_names, lambda x: G @ x[:d])
    with spon.TwoScaleProblem(mesh, spon.lagrange(mesh, 2, d), sides, load_steps=2) as problem:
        solution = problem.solve(spon.MaterialModel(SOFT, problem.points.size))
    e = (G + G.T) / 2
    shears = [(0, 1)] if d == 2 else [(1, 2), (0, 2), (0, 1)]
    strain = np.array([*np.diag(e), *(2 * e[i, j] for i, j in shears)])
    found = solution.gather(solution.micro.strain)
    assert np.abs(found - strain).max() <= 1e-9
    stress = SOFT.stress(torch.from_numpy(strain)[None])[0].numpy()
    assert np.abs(solution.gather(solution.micro.stress) - stress).max() <= 1e-5
    for name, k in (("stress_xx", 0), ("stress_xy", -1)):  # the projection keeps constants
        assert np.abs(solution.fields[name][1] - stress[k]).max() <= 1e-5


@pytest.mark.mpi
def test_newton_converges_quadratically_with_one_call_an_iteration():
    with cantilever(on_mesh(n=4), traction=8.0, rtol=1e-11) as problem:
        solution = problem.solve(spon.MaterialModel(SOFT))
    (step,) = solution.steps
    r = np.array(step.residuals)
    r = r[r > 1e-12]
    assert len(r) >= 4
    assert np.log(r[-1]) / np.log(r[-2]) >= 1.7
    if len(problem.points):
        assert solution.calls == step.iterations + 1 == step.calls + 1
    assert step.points == WORLD.allreduce(len(problem.points)) == 32 * 3


@pytest.mark.mpi
def test_a_tangent_that_is_not_symmetric_is_solved_as_it_is():
    """A linear law without a potential: one iteration, which a symmetric part of its tangent would not do."""

    class Skew(Partial):
        def respond(self, strain, where=None):
            C = STIFF.quadratic(3)
            C[0, 1] *= 1.2
            return replace(
                super().respond(strain, where), stress=strain @ C.T, tangent=C.expand(len(strain), 3, 3)
            )

    with cantilever(on_mesh(), load_steps=2) as problem:
        steps = problem.solve(Skew()).steps
        symmetric = problem.solve(Partial(STIFF)).steps  # the same problem, both kinds
    assert [step.iterations for step in (*steps, *symmetric)] == [1, 1, 1, 1]


@pytest.mark.mpi
def test_forces_and_moments_balance():
    mesh = on_mesh("quadrilateral", 4)
    with cantilever(mesh, traction=6.0) as problem:
        solution = problem.solve(spon.MaterialModel(SOFT))
    forces = solution.order.gather_dual(solution.reactions).reshape(-1, 2)
    x = solution.order.canonical.nodes
    load = 6.0 * WORLD.allreduce(
        fem.assemble_scalar(fem.form(fem.Constant(mesh.dolfinx, 1.0) * mesh.ds("right")))
    )
    arm = ufl.SpatialCoordinate(mesh.dolfinx)[0]
    moment = 6.0 * WORLD.allreduce(fem.assemble_scalar(fem.form(arm * mesh.ds("right"))))
    assert np.abs(forces.sum(axis=0) + np.array((0.0, load))).max() <= 1e-7 * load
    assert abs((x[:, 0] * forces[:, 1] - x[:, 1] * forces[:, 0]).sum() + moment) <= 1e-7 * moment
    free = ~problem.constraint.fixed.reshape(-1, 2).any(axis=1)
    assert np.abs(forces[free]).max() <= 1e-7 * load


@pytest.mark.mpi
@pytest.mark.parametrize("cell", ["quadrilateral", "tetrahedron"])
def test_solutions_do_not_depend_on_the_number_of_ranks(cell):
    def solve(comm):
        with cantilever(on_mesh(cell, comm=comm), load_steps=2, rtol=1e-12) as problem:
            solution = problem.solve(spon.MaterialModel(SOFT, problem.points.size))
        return displacement(solution), solution.gather(solution.micro.stress), solution.fields["stress_xx"][1]

    for shared, alone in zip(solve(WORLD), solve(MPI.COMM_SELF), strict=True):
        assert np.abs(shared - alone).max() <= 1e-10 * np.abs(alone).max()


@pytest.mark.parametrize("cell", ["quadrilateral", "tetrahedron"])
def test_the_stiffness_is_the_derivative_of_the_forces(cell, rng):
    mesh = on_mesh(cell, 2)
    points = MacroPoints(mesh, spon.lagrange(mesh, 1, mesh.arrays.gdim))
    n = points.dofs.max() + 1
    u, du, h = 0.02 * rng.normal(size=n), rng.normal(size=n), 1e-6

    def force(values):
        return points.force(SOFT.stress(torch.from_numpy(points.strain(values))).numpy())

    tangent = SOFT.tangent(torch.from_numpy(points.strain(u))).numpy()
    product = (points.stiffness(tangent) @ du[points.dofs][..., None])[..., 0]
    product = np.bincount(points.dofs.ravel(), weights=product.ravel())
    difference = (force(u + h * du) - force(u - h * du)) / (2 * h)
    assert np.abs(product - difference).max() <= 1e-6 * np.abs(product).max()
    # virtual work: u · F = Σ w σ · ε
    stress = rng.normal(size=(len(points), points.size))
    work = (points.weights[:, None] * stress * points.strain(u)).sum()
    assert u @ points.force(stress) == pytest.approx(work, rel=1e-12)


@pytest.mark.mpi
def test_points_keep_their_numbers():
    mesh = on_mesh("quadrilateral", 3)
    points = MacroPoints(mesh, spon.lagrange(mesh, 1, 2))
    alone = on_mesh("quadrilateral", 3, MPI.COMM_SELF)
    whole = MacroPoints(alone, spon.lagrange(alone, 1, 2))
    place = dict(zip(whole.numbers, map(tuple, whole.coordinates), strict=True))
    assert len(place) == WORLD.allreduce(len(points)) == 36
    for number, x in zip(points.numbers, points.coordinates, strict=True):
        assert x == pytest.approx(place[number], abs=1e-12)
    model = Partial()
    with cantilever(mesh, degree=1) as problem:
        problem.solve(model)
    assert all(np.array_equal(where, problem.points.numbers) for _, where in model.asked)


@pytest.mark.mpi
def test_prescribed_displacements_grow_with_the_load():
    mesh = on_mesh()
    space = spon.lagrange(mesh, 2, 2)
    with spon.TwoScaleProblem(mesh, space, {"left": 0.0, "right": (0.0, 0.05)}, load_steps=3) as problem:
        solution = problem.solve(spon.MaterialModel(SOFT))
    assert [step.load for step in solution.steps] == pytest.approx([1 / 3, 2 / 3, 1])
    assert problem.constraint.violation(displacement(solution)[None])[0] <= 1e-15


@pytest.mark.mpi
def test_tractions_grow_with_the_load():
    """Half the load gives half the strains of a linear law; one Newton iteration and call a step."""
    model = Partial(STIFF)
    with cantilever(on_mesh(), load_steps=2) as problem:
        solution = problem.solve(model)
    assert [step.iterations for step in solution.steps] == [1, 1]
    if len(problem.points):
        rest, half, full = (strain.numpy() for strain, _ in model.asked)
        assert not rest.any()
        assert np.abs(full - 2.0 * half).max() <= 1e-12 * np.abs(full).max()
        assert np.abs(full - solution.micro.strain).max() <= 1e-12 * np.abs(full).max()


@pytest.mark.mpi
def test_the_strain_next_to_a_place_does_not_depend_on_the_ranks():
    mesh = on_mesh("triangle", n=3)
    with cantilever(mesh) as problem:
        solution = problem.solve(spon.MaterialModel(SOFT))
        strain, place = solution.strain_at((0.31, 0.52))
        coordinates = solution.gather(solution.points.coordinates)
    distance = np.linalg.norm(coordinates - (0.31, 0.52), axis=1)
    assert np.array_equal(place, coordinates[distance.argmin()])
    with cantilever(on_mesh("triangle", n=3, comm=MPI.COMM_SELF)) as problem:
        alone = problem.solve(spon.MaterialModel(SOFT)).strain_at((0.31, 0.52))
    assert np.abs(strain - alone[0]).max() <= 1e-12
    assert np.abs(place - alone[1]).max() <= 1e-14
