"""Macroscopic problems: known solutions, equilibrium, Newton's convergence, fallback, failures."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import ufl
from dolfinx import fem
from mpi4py import MPI

import spon
from meshes import box, mapped
from spon.cli.main import main
from spon.fem.mesh import TaggedMesh
from spon.multiscale.macro_points import MacroPoints

WORLD = MPI.COMM_WORLD
SOFT = spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06)
STIFF = spon.LinearElastic(K=4000.0, G=500.0)


def wavy(x):
    return x + 0.03 * np.sin(3 * x[::-1])


def on_mesh(cell="triangle", n=3, comm=WORLD):
    return TaggedMesh(mapped(box(cell, n), wavy), comm)


def cantilever(mesh, degree=2, traction=5.0, **settings):
    d = mesh.arrays.gdim
    space = spon.lagrange(mesh, degree, d)
    load = {"right": [0.0] * (d - 1) + [traction]}
    return spon.TwoScaleProblem(mesh, space, {"left": 0.0}, load, **settings)


def displacement(solution):
    return solution.order.gather(solution.displacement.x.array)


class Partial:
    """The law, with an indicator of its own; fails where γ_xy exceeds `limit`."""

    def __init__(self, law=SOFT, size=3, limit=math.inf):
        self.law, self.strain_size, self.limit = law, size, limit
        self.asked = []

    def respond(self, strain, where=None):
        self.asked.append((strain.clone(), where))
        stress, tangent = self.law.response(strain)
        shear = strain[:, -1].abs()
        return spon.Response(stress, tangent, shear, shear > self.limit)


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


def test_the_fallback_answers_the_doubtful_points_and_no_others(rng):
    strain = torch.from_numpy(rng.uniform(-0.04, 0.04, size=(50, 3)))
    strain[7, 2] = math.nan
    where = torch.arange(100, 150)
    quick, sure = Partial(STIFF, limit=0.035), Partial(SOFT)
    model = spon.WithFallback(quick, sure, 0.02)
    answer = model.respond(strain, where)
    expected = ~(strain[:, 2].abs() <= 0.02)
    assert 0 < expected.sum() < 50
    assert torch.equal(answer.fallback, expected)
    (asked,) = sure.asked
    assert torch.equal(asked[1], where[expected])
    for part, law in ((expected, SOFT), (~expected, STIFF)):
        stress, tangent = law.response(strain[part])
        assert torch.equal(answer.stress[part].nan_to_num(), stress.nan_to_num())
        assert torch.equal(answer.tangent[part].nan_to_num(), tangent.nan_to_num())
    assert (model.calls, model.solved) == (1, int(expected.sum()))
    again = model.respond(torch.zeros_like(strain), where)
    assert torch.equal(again.fallback, expected)  # a point does not change its law and back
    model.forget()
    assert not model.respond(torch.zeros_like(strain), where).fallback.any()
    failures = spon.WithFallback(quick, sure, math.inf).respond(strain)
    assert torch.equal(failures.fallback, (strain[:, 2].abs() > 0.035) | strain[:, 2].isnan())


class Ranged(Partial):
    """Knows nothing where γ_xy > 0.02: the indicator is infinite there, as a surrogate's outside its box."""

    def respond(self, strain, where=None):
        answer = super().respond(strain, where)
        return replace(answer, indicator=answer.indicator.masked_fill(strain[:, 2] > 0.02, math.inf))


@pytest.mark.parametrize("threshold", [0.5, math.inf])
def test_what_leaves_the_trained_range_falls_back_whatever_the_threshold(rng, threshold):
    strain = torch.from_numpy(rng.uniform(-0.04, 0.04, size=(50, 3)))
    answer = spon.WithFallback(Ranged(), spon.MaterialModel(STIFF), threshold).respond(strain)
    assert torch.equal(answer.fallback, strain[:, 2] > 0.02)


def test_points_outside_the_trained_range_are_counted():
    with cantilever(on_mesh(n=4), traction=8.0) as problem:
        solution = problem.solve(Ranged())
    outside = int((solution.micro.strain[:, 2] > 0.02).sum())
    assert outside > 0
    assert any(line.startswith(f"{outside} points outside the trained range") for line in solution.summary())


def test_a_fallback_refuses_what_cannot_be():
    plain = spon.MaterialModel(SOFT)
    with pytest.raises(spon.SponError, match=r"threshold = 0; allowed|threshold = 0\.0"):
        spon.WithFallback(plain, plain, 0.0)
    with pytest.raises(spon.SponError, match=r"3 components.*of 6; allowed"):
        spon.WithFallback(plain, spon.MaterialModel(SOFT, 6), 0.1)
    with pytest.raises(spon.SponError, match=r"without an indicator; allowed"):
        spon.WithFallback(plain, plain, 0.1).respond(torch.zeros(2, 3, dtype=torch.float64))


@pytest.mark.mpi
def test_with_a_fallback_the_solution_is_within_tolerance_everywhere():
    mesh = on_mesh(n=4)
    sure = spon.MaterialModel(SOFT)
    lines = []
    with cantilever(mesh, traction=8.0) as problem:
        expected = problem.solve(sure)
        model = spon.WithFallback(Partial(SOFT, limit=0.02), sure, 0.015)
        solution = problem.solve(model, lines.append)
    assert np.abs(displacement(solution) - displacement(expected)).max() <= 1e-12
    fallback = solution.gather(solution.micro.fallback)
    shear = np.abs(solution.gather(solution.micro.strain)[:, 2])
    assert 0 < solution.fallback == fallback.sum() < len(fallback)
    assert (shear[~fallback] <= 0.015).all()
    assert f"fallback at {fallback.sum()} of {len(fallback)} points" in lines[-1]
    assert solution.summary()[2] == f"fallback at {fallback.sum()} of {len(fallback)} points"
    assert {"u", "stress_xx", "indicator", "fallback"} <= set(solution.fields)


@pytest.mark.mpi
def test_a_point_without_an_answer_ends_the_run_on_every_rank():
    with cantilever(on_mesh(n=4), traction=8.0, load_steps=2, bisections=2) as problem:
        with pytest.raises(spon.SponError) as caught:
            problem.solve(Partial(limit=0.02))
        text = str(caught.value)
        problem.solve(spon.MaterialModel(SOFT))  # it can be used again
    assert len(set(WORLD.allgather(text))) == 1
    assert "\n" not in text
    for part in ("load step ", "has no answer at", "first point", "strain (", "step halved 2 times"):
        assert part in text


@pytest.mark.mpi
def test_an_error_of_the_model_on_one_rank_reaches_all():
    class Failing(Partial):
        def respond(self, strain, where=None):
            if (where == 5).any():
                raise spon.SponError("the cell cannot be solved")
            return super().respond(strain, where)

    with (
        cantilever(on_mesh()) as problem,
        pytest.raises(spon.SponError, match=r"^the cell cannot be solved$"),
    ):
        problem.solve(Failing())


@pytest.mark.mpi
def test_newtons_divergence_says_where():
    # the deviatoric stress is bounded by alpha1 = 50 and the load is not: there is no equilibrium
    problem = cantilever(on_mesh(), traction=500.0, bisections=1)
    with problem, pytest.raises(spon.SponError) as caught:
        problem.solve(spon.MaterialModel(SOFT))
    for part in (
        "load step 1 (load 0.5)",
        "iterations, residual",
        "largest strain at point",
        "load reached: 0,",
    ):
        assert part in str(caught.value)


def test_a_tangent_that_is_not_positive_definite_is_refused():
    class Unstable(Partial):
        def respond(self, strain, where=None):
            stress, tangent = STIFF.response(strain)
            return spon.Response(-stress, -tangent, None, torch.zeros(len(strain), dtype=torch.bool))

    mesh = on_mesh(comm=MPI.COMM_SELF)
    with cantilever(mesh) as problem, pytest.raises(spon.SponError, match="not positive definite after 0"):
        problem.solve(Unstable())


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"load_steps": 0}, "load_steps = 0; allowed: >= 1"),
        ({"rtol": 2.0}, "rtol = 2.0; allowed: between 0 and 1"),
        ({"degree": -1}, "degree = -1 of the quadrature"),
        ({"tractions": {"right": (1.0,)}}, r"'right' has shape \(1,\); allowed: \(2,\)"),
        ({"tractions": {"rigth": (1.0, 0.0)}}, "boundary 'rigth' not found"),
    ],
)
def test_bad_settings_are_refused(settings, text):
    mesh = on_mesh(n=2)
    with pytest.raises(spon.SponError, match=text):
        spon.TwoScaleProblem(mesh, spon.lagrange(mesh, 1, 2), {"left": 0.0}, **settings)


def test_wrong_spaces_and_models_are_refused():
    mesh = on_mesh(n=2, comm=MPI.COMM_SELF)
    with pytest.raises(spon.SponError, match="allowed: continuous vectors"):
        spon.TwoScaleProblem(mesh, spon.lagrange(mesh, 1), {"left": 0.0})
    with cantilever(mesh) as problem, pytest.raises(spon.SponError, match="of 6 components; allowed: 3"):
        problem.solve(spon.MaterialModel(SOFT, 6))


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


MACRO = """
import spon

def macro(comm):
    mesh = spon.read_mesh(spon.find_mesh("cook.geo"), comm)
    space = spon.lagrange(mesh, degree=1, components=2)
    return spon.TwoScaleProblem(mesh, space, {"left": 0.0}, {"right": (0.0, 5.0)})
"""


@pytest.mark.mpi
def test_the_command_runs_a_macroscopic_problem(shared_folder, monkeypatch, capsys):
    file = shared_folder / "macro.py"
    if WORLD.rank == 0:
        file.write_text(MACRO)
    WORLD.barrier()
    monkeypatch.setattr(spon, "load_surrogate", lambda path: Partial(limit=0.02), raising=False)
    monkeypatch.setattr(spon, "FEModel", lambda rve: spon.MaterialModel(SOFT), raising=False)
    monkeypatch.setattr(
        spon, "RVE", type("RVE", (), {"load": staticmethod(lambda path: path)}), raising=False
    )
    target = shared_folder / "out.vtu"
    command = ["fe2", "run", str(file), "--surrogate", "s.h5"]
    with_cell = [*command, "--rve", "r.h5", "--fallback", "fe", "--threshold", "0.015", "-o", str(target)]
    main(with_cell)
    out = capsys.readouterr().out
    if WORLD.rank == 0:
        assert "224 cells, 510 DoFs, 896 points" in out
        assert "load 1: " in out
        assert "fallback at" in out
    WORLD.barrier()
    assert target.is_file()
    cell = [*command[:3], "--rve", "r.h5"]
    for bad in (
        command[:3],
        command,
        [*command, "--threshold", "1"],
        [*command, "--rve", "r.h5"],
        [*command, "--fallback", "fe"],
        [*command, "--local", "1,1", str(shared_folder / "local.vtu")],
        [*cell, "--local", "1,1,1", str(shared_folder / "local.vtu")],
        [*cell, "--local", "1,1", str(shared_folder / "local.bp")],
    ):
        with pytest.raises(SystemExit):
            main(bad)
    if WORLD.rank == 0:
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 8
        assert all(line.startswith("spon: error: ") for line in errors)
