import numpy as np
import pytest
import ufl
from conftest import Diffusion, on_square
from mpi4py import MPI

import spon
from spon.physics.assembled.floor import fe_floor

WORLD = MPI.COMM_WORLD


class Manufactured(spon.Problem):
    """−div(κ ∇u) = f with u = sin(2x) cos(y) + y, κ = m = 1 + x; Dirichlet at left and right, else flux."""

    @staticmethod
    def exact(x):
        return np.sin(2 * x[0]) * np.cos(x[1]) + x[1]

    def residual(self, u, m, v):
        x = ufl.SpatialCoordinate(self.hierarchy.finest.dolfinx)
        exact = ufl.sin(2 * x[0]) * ufl.cos(x[1]) + x[1]
        kappa = 1 + x[0]
        normal = ufl.FacetNormal(self.hierarchy.finest.dolfinx)
        flux = kappa * ufl.dot(ufl.grad(exact), normal)
        source = -ufl.div(kappa * ufl.grad(exact))
        form = m * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx - source * v * ufl.dx
        return form - flux * v * self.ds("top") - flux * v * self.ds("bottom")


def errors(hierarchy):
    exact = Manufactured.exact
    problem = Manufactured(hierarchy, {"left": exact, "right": exact})
    level = problem.discretisation.levels[0]
    difference = problem.solve(1 + level.points[:, 0]) - exact(level.points.T)
    return [np.sqrt(difference @ (gram @ difference)) for gram in (level.mass, level.stiffness)]


@pytest.mark.mpi
def test_solutions_converge_to_the_manufactured_one_at_their_rate():
    coarse, fine = errors(on_square(4, 1, WORLD)), errors(on_square(4, 3, WORLD))
    rates = np.log2(np.array(coarse) / fine) / 2
    assert rates[0] > 1.9
    assert rates[1] > 1.8  # nodal differences superconverge on this mesh
    assert fine[0] < 1e-3


@pytest.mark.mpi
def test_a_solution_does_not_depend_on_the_number_of_ranks(problem, rng):
    spread = Diffusion(on_square(3, 2, WORLD))
    m = problem.sample(np.random.default_rng(3))
    np.testing.assert_allclose(spread.sample(np.random.default_rng(3)), m, rtol=1e-10)
    np.testing.assert_allclose(spread.solve(m), problem.solve(m), atol=1e-10)


def test_outputs_satisfy_the_constraint_and_are_reproducible(problem):
    m, other = (problem.sample(np.random.default_rng(k)) for k in (0, 1))
    first = problem.solve(m)
    problem.solve(other)
    np.testing.assert_array_equal(problem.solve(m), first)
    assert problem.constraint.violation(first[None]).max() == 0.0


def test_linear_in_the_data(problem):
    """Scaling κ, f, q and u_D alike leaves u where u_D is scaled by one: here κ → cκ, f, q → cf, cq."""
    m = problem.sample(np.random.default_rng(0))
    scaled = Diffusion(problem.hierarchy)
    scaled.source, scaled.flux = 3.0 * problem.source, {k: 3.0 * q for k, q in problem.flux.items()}
    np.testing.assert_allclose(scaled.solve(3.0 * m), problem.solve(m), rtol=1e-11)


def test_a_singular_problem_is_refused():
    broken = Diffusion(on_square(3, 0))
    with pytest.raises(spon.SponError, match="did not converge: DIVERGED_PCSETUP_FAILED"):
        broken.solve(np.zeros(16))


@pytest.mark.mpi
def test_floor_is_below_the_solution_and_falls_at_its_rate(problem, dataset):
    few = dataset[:4]
    floor = fe_floor(problem, few)
    assert (floor.best_l2 <= floor.solve_l2).all()
    assert (floor.best_h1 <= floor.solve_h1).all()
    coarse_problem = Diffusion(on_square(3, 1))
    smooth = np.ones((2, coarse_problem.discretisation.dofs))
    outputs = np.array([coarse_problem.solve(m) for m in smooth])
    kind = type(dataset)
    coarse = fe_floor(coarse_problem, kind(coarse_problem.discretisation, smooth, outputs, np.arange(2)))
    fine_problem = Diffusion(on_square(3, 2))
    smooth = np.ones((2, fine_problem.discretisation.dofs))
    outputs = np.array([fine_problem.solve(m) for m in smooth])
    fine = fe_floor(fine_problem, kind(fine_problem.discretisation, smooth, outputs, np.arange(2)))
    assert coarse.best_l2[0] / fine.best_l2[0] > 3.0
    assert 1.7 < coarse.best_h1[0] / fine.best_h1[0] < 2.3


@pytest.mark.mpi
@pytest.mark.parametrize("name", ["darcy", "elasticity", "notch", "helmholtz"])
def test_floor_of_cell_values_vectors_and_boundary_data(name):
    """The same inputs on the finer mesh give a solution nearby, as far as the space can be."""
    found = spon.load_problem(spon.find_problem(f"{name}.py"))
    problem = getattr(found, name.capitalize()).from_mesh(group=MPI.COMM_SELF, refinements=0)
    floor = fe_floor(problem, spon.generate(problem, 2, seed=0))
    for best, solve, most in ((floor.best_l2, floor.solve_l2, 0.2), (floor.best_h1, floor.solve_h1, 0.6)):
        assert (best > 0).all()
        assert (best <= solve).all()
        assert (solve < most).all()


@pytest.mark.mpi
def test_a_problem_is_made_from_its_own_mesh_or_another_one(shared_folder):
    plate = spon.load_problem(spon.find_problem("plate.py")).Plate
    own = plate.from_mesh(group=MPI.COMM_SELF, refinements=1, source=2.0)
    assert len(own.hierarchy.meshes) == 2
    assert (own.comm.size, own.source) == (1, 2.0)
    assert len(plate.from_mesh().hierarchy.meshes) == 1 + plate.default_refinements
    other = plate.from_mesh(spon.find_mesh("cell.geo"))
    assert len(other.hierarchy.meshes) == 1
    assert other.comm.size == WORLD.size
    with pytest.raises(spon.SponError, match="refinements = -1; allowed: 0, 1, 2"):
        plate.from_mesh(refinements=-1)
    with pytest.raises(spon.SponError, match="Problem names no mesh of its own; allowed: the path of a mesh"):
        spon.Problem.from_mesh()
    with pytest.raises(spon.SponError, match="absent"):
        plate.from_mesh(shared_folder / "absent.msh")


class Nonlinear(spon.Problem):
    """−div((1 + u²) ∇u) = c f, u = g on the left and right, both inputs; u = sin(2x) + y for c = 1."""

    linear = False
    boundary_data = {"g": "left"}  # noqa: RUF012, read only

    @staticmethod
    def exact(x):
        return np.sin(2 * x[0]) + x[1]

    def make_inputs(self):
        mesh = self.hierarchy.finest
        return {"c": spon.Parameters(mesh, ["c"]), "g": spon.Trace(mesh, self.space, "left")}

    def residual(self, u, m, v):
        mesh = self.hierarchy.finest.dolfinx
        x, normal = ufl.SpatialCoordinate(mesh), ufl.FacetNormal(mesh)
        exact = ufl.sin(2 * x[0]) + x[1]
        flux = (1 + exact**2) * ufl.grad(exact)
        form = (1 + u**2) * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx + m["c"] * ufl.div(flux) * v * ufl.dx
        return form - ufl.dot(flux, normal) * v * (self.ds("top") + self.ds("bottom"))


class Recorder:
    """A load that remembers its values."""

    def __init__(self):
        self.shares = []

    def __setattr__(self, name, value):
        if name == "value":
            self.shares.append(value)
        else:
            super().__setattr__(name, value)


def test_the_load_is_raised_in_steps():
    problem = Nonlinear(on_square(3, 0), {"left": 0.0, "right": Nonlinear.exact})
    problem.load, problem.load_steps = Recorder(), 4
    found = problem.solution({"c": 1.0, "g": problem.encoders["g"](Nonlinear.exact)})
    np.testing.assert_allclose(problem.load.shares, [0.25, 0.5, 0.75, 1.0])
    assert (found.statistics["load_steps"], found.statistics["bisections"]) == (4, 0)


@pytest.mark.mpi
def test_a_nonlinear_problem_with_boundary_data_converges_at_its_rate():
    def solved(refinements, c=1.0):
        problem = Nonlinear(on_square(4, refinements, WORLD), {"left": 0.0, "right": Nonlinear.exact})
        g = problem.encoders["g"](Nonlinear.exact)
        found = problem.solution({"c": c, "g": g})
        np.testing.assert_array_equal(found.values[problem.discretisation.boundary_dofs["left"]], g)
        assert found.statistics["iterations"] > 1
        return found.values - Nonlinear.exact(problem.nodal_level.points.T)

    coarse, fine = (np.abs(solved(n)).max() for n in (1, 3))
    assert np.log2(coarse / fine) / 2 > 1.8
    assert fine < 1e-3
    assert np.abs(solved(1, c=2.0)).max() > 0.1


class Quadratic(Diffusion):
    def residual(self, u, m, v):
        return super().residual(u, m, v) + v**2 * ufl.dx


class NoTest(Diffusion):
    def residual(self, u, m, v):
        return u * ufl.dx


class Foreign(Diffusion):
    def make_constraint(self):
        return spon.Constraint.none(3)


class Oscillating(Diffusion):
    """Far beyond the first eigenvalue: indefinite."""

    def residual(self, u, m, v):
        return super().residual(u, m, v) - 500 * u * v * ufl.dx


@pytest.mark.mpi
@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize(
    ("cls", "line"),
    [
        (Quadratic, "the residual is not linear in v: .*; allowed: F.u; m, v. linear in v"),
        (NoTest, "the residual has 0 arguments of UFL; allowed: one, the test function v"),
        (Foreign, "a constraint on 3 DoFs; the space has 16"),
    ],
)
def test_what_cannot_be_solved_is_refused(cls, line, linear):
    problem = cls(on_square(3, 0, WORLD))
    problem.linear, problem.solver_options = linear, None
    with pytest.raises(spon.SponError, match=line):
        problem.solve(np.ones(16))


@pytest.mark.mpi
def test_iterative_solvers_say_what_they_reached():
    cg = {"ksp_type": "cg", "pc_type": "jacobi"}
    for cls, options, line in (
        (Diffusion, cg | {"ksp_rtol": 1e-14, "ksp_max_it": 5}, "DIVERGED_MAX_IT after 5 iterations"),
        (Oscillating, cg, "DIVERGED_INDEFINITE_MAT after . iterations"),
    ):
        problem = cls(on_square(3, 1, WORLD))
        problem.solver_options = options
        with pytest.raises(
            spon.SponError, match=rf"did not converge: {line}, residual norm \d\S*, right-hand side \d"
        ):
            problem.solve(np.ones(49))
