"""Tuned solves: whichever arm it was, the solution is that of a factorisation, and the log says all."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import ufl
from dolfinx import fem
from mpi4py import MPI

import spon
from meshes import box
from spon.fem.arms import Arm, ArmSolver, standard_arms
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD
JACOBI = {"ksp_type": "cg", "pc_type": "jacobi"}


class Systems:
    """Systems of one kind with random smooth coefficients."""

    def __init__(self, kind, n=10):
        components = 2 if kind == "elasticity" else 1
        mesh = TaggedMesh(box("triangle", n), WORLD)
        space = spon.lagrange(mesh, components=components)
        self.order = CanonicalOrder(mesh, space)
        self.constraint = spon.dirichlet(mesh, space, {"left": 0.0, "right": 1.0})
        self.options = {}
        self.kappa = fem.Function(fem.functionspace(mesh.dolfinx, ("DG", 0)))
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        grad = (lambda w: ufl.sym(ufl.grad(w))) if kind == "elasticity" else ufl.grad
        self.form = self.kappa * ufl.inner(grad(u), grad(v)) * ufl.dx
        if kind == "advection":
            self.form += ufl.dot(ufl.as_vector((20.0, 10.0)), ufl.grad(u)) * v * ufl.dx
            self.options = {"symmetric": False}
        if kind == "indefinite":
            self.form -= 100.0 * u * v * ufl.dx
            self.options = {"definite": False}
        if kind == "singular":
            self.constraint = spon.Constraint.none(self.order.size)
            self.options = {"nullspace": "constants"}
        x = ufl.SpatialCoordinate(mesh.dolfinx)[0]
        self.rhs = assembled_vector((v if components == 1 else v[0] + x * v[1]) * ufl.dx)

    def matrix(self, sample):
        a, b, c = np.random.default_rng(sample).standard_normal(3)
        wave = lambda x: np.exp(a * np.cos(3 * x[0]) + b * np.sin(4 * x[1]) + c * x[0] * x[1])  # noqa: E731
        self.kappa.interpolate(wave)
        return assembled(self.form)

    def direct(self, matrix):
        nullspace = self.options.get("nullspace")
        with spon.ConstrainedSolver(self.order, self.constraint, nullspace=nullspace) as solver:
            return self.order.gather(solver.solve(matrix, self.rhs))

    def tuned(self, arms=None, **others):
        return spon.TunedSolver(self.order, self.constraint, arms, **self.options, **others)

    def arms(self):
        kind = {"symmetric": True, "definite": True, "nullspace": None} | self.options
        singular = kind.pop("nullspace") is not None
        components = self.order.space.dofmap.bs
        return standard_arms(WORLD, self.order.size, 2, singular=singular, components=components, **kind)


@pytest.fixture
def patient(monkeypatch):
    """No arm is stopped for being slow: the test does not depend on the clock."""
    monkeypatch.setattr(spon.TunedSolver, "_budget", lambda solver, early: np.inf)


@pytest.fixture
def steady(monkeypatch):
    """Time is counted in looks at the clock: costs do not depend on what else the machine does."""
    ticks = itertools.count()
    monkeypatch.setattr("spon.fem.arms.time", SimpleNamespace(perf_counter=lambda: 1e-3 * next(ticks)))


KINDS = ["diffusion", "elasticity", "advection", "indefinite", "singular"]


@pytest.mark.mpi
@pytest.mark.parametrize("kind", KINDS)
def test_solutions_are_those_of_a_factorisation(kind):
    systems = Systems(kind)
    with systems.tuned() as solver:
        for sample in range(18):
            matrix = systems.matrix(sample)
            found = systems.order.gather(solver.solve(matrix, systems.rhs))
            expected = systems.direct(matrix)
            np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())
            assert systems.constraint.violation(found[None])[0] <= 1e-14 * np.abs(found).max()
        log, totals = solver.log, solver.totals()
    assert [record.system for record in log] == list(range(18))
    assert {record.arm for record in log} - {""} == totals.keys()  # each was tried
    assert len(totals) == len(systems.arms())
    assert max(record.residual for record in log) <= 2e-10
    assert all(record.seconds > 0 for record in log)
    assert {record.solver for record in log if record.failure} <= {"last resort", *totals}
    assert not any(record.solver == record.arm for record in log if record.failure)
    assert all(record.solver == record.arm for record in log if not record.failure)
    by_arms = [record for record in log if record.arm]
    assert sum(total.systems for total in totals.values()) == len(by_arms)
    assert sum(total.seconds for total in totals.values()) == pytest.approx(sum(r.seconds for r in by_arms))
    assert all(other == log for other in WORLD.allgather(log))


@pytest.mark.mpi
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", KINDS)
def test_every_arm_solves(kind):
    systems = Systems(kind, n=6)
    matrices = [systems.matrix(sample) for sample in range(2)]
    expected = [systems.direct(matrix) for matrix in matrices]
    arms = systems.arms()
    assert len(arms) >= 3
    by_name = {arm.name: arm for arm in arms}
    for arm in arms:
        needed = [by_name[arm.shares], arm] if arm.shares else [arm]
        with systems.tuned(needed) as solver:
            for k in (0, 1, 0, 1):
                found = systems.order.gather(solver.solve(matrices[k], systems.rhs))
                np.testing.assert_allclose(found, expected[k], atol=1e-8 * np.abs(expected[k]).max())
            assert {record.arm for record in solver.log} == {one.name for one in needed}
            assert all(record.failure == "" for record in solver.log), arm
            assert not solver.dropped


@pytest.mark.mpi
@pytest.mark.usefixtures("patient")
def test_failing_arms_are_replaced():
    systems = Systems("diffusion")
    arms = [
        Arm("no such", {"pc_type": "nonsense"}),
        Arm("no package", {"ksp_type": "preonly", "pc_type": "lu", "pc_factor_mat_solver_type": "nonsense"}),
        Arm("diverging", {"ksp_type": "richardson", "pc_type": "none"}),
        Arm("wrong", {"ksp_type": "preonly", "pc_type": "jacobi"}),
    ]
    matrix = systems.matrix(0)
    expected = systems.direct(matrix)
    with systems.tuned(arms) as solver:
        for _ in range(8):
            found = systems.order.gather(solver.solve(matrix, systems.rhs))
            np.testing.assert_allclose(found, expected, atol=1e-10)
        log = solver.log
        assert solver.dropped.keys() == {"no such", "no package"}
    assert [record.arm for record in log[:3]] == ["no package", "diverging", "wrong"]
    assert {record.solver for record in log} == {"last resort"}
    assert log[2].failure.startswith("residual norm")
    assert "DIVERGED" in log[1].failure
    assert log[3].arm == ""  # both rest
    assert all(record.failure and record.residual < 1e-12 for record in log)


@pytest.mark.mpi
def test_slow_arms_are_stopped(monkeypatch):
    systems = Systems("diffusion")
    matrix = systems.matrix(0)
    monkeypatch.setattr(spon.TunedSolver, "_budget", lambda solver, early: 0.0)
    with systems.tuned([Arm("slow", JACOBI)]) as solver:
        found = systems.order.gather(solver.solve(matrix, systems.rhs))
        np.testing.assert_allclose(found, systems.direct(matrix), atol=1e-10)
        record = solver.log[0]
    assert (record.arm, record.solver, record.iterations) == ("slow", "last resort", 4)
    assert record.failure.startswith("stopped")


class Counting:
    """A preconditioner of Python that counts how often it is set up."""

    setups = 0

    def setUp(self, pc):
        Counting.setups += 1

    def apply(self, pc, x, y):
        x.copy(y)


@pytest.mark.mpi
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("lag", "expected"), [(1, 6), (4, 2)])
def test_set_up_is_kept_while_the_matrix_is_or_the_arm_lags(lag, expected):
    systems = Systems("diffusion", n=4)
    counting = {"ksp_type": "cg", "pc_type": "python", "pc_python_type": f"{__name__}.Counting"}
    Counting.setups = 0
    with systems.tuned([Arm("counting", counting, lag=lag)]) as solver:
        for sample in range(6):
            matrix = systems.matrix(sample)
            for shift in (1.0, 2.0, 3.0):
                systems.order.gather(
                    solver.solve(matrix, systems.rhs, shift=shift * systems.constraint.shift)
                )
        assert solver.system.version == 6
        assert Counting.setups == expected
        before = systems.order.gather(solver.solve(matrix, systems.rhs))
        matrix.scale(2.0)  # the same object with other values
        after = systems.order.gather(solver.solve(matrix, systems.rhs))
        assert solver.system.version == 7
    np.testing.assert_allclose(after, systems.direct(matrix), atol=1e-8)
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.mpi
def test_what_cannot_be_solved_is_refused_on_all_ranks():
    systems = Systems("diffusion")
    matrix, order = systems.matrix(0), systems.order
    broken = systems.rhs.copy()
    broken.set(np.nan)
    with systems.tuned() as solver, pytest.raises(spon.SponError, match="right-hand side is not finite"):
        solver.solve(matrix, broken)
    free = spon.Constraint.none(order.size)
    with (
        spon.TunedSolver(order, free, [Arm("cg", JACOBI)]) as solver,
        pytest.raises(spon.SponError, match=r"no solver reached the tolerance: cg: .*; last resort: "),
    ):
        solver.solve(matrix, systems.rhs)
    for arms in ([Arm("a"), Arm("a")], [Arm("last resort")], [Arm("a", lag=0)]):
        with pytest.raises(spon.SponError, match="names that differ"):
            systems.tuned(arms)
    with pytest.raises(spon.SponError, match="rtol 0"):
        systems.tuned(rtol=0)


@pytest.mark.mpi
def test_a_load_of_zero_has_the_shift_as_its_solution():
    systems = Systems("diffusion", n=4)
    zero = systems.rhs.duplicate()
    zero.set(0.0)
    with systems.tuned([Arm("cg", JACOBI)]) as solver:
        found = solver.solve(systems.matrix(0), zero, shift=np.zeros(systems.order.size))
        assert solver.log[0].residual == 0.0
    assert np.abs(found).max(initial=0.0) == 0.0


@pytest.mark.mpi
@pytest.mark.usefixtures("patient")
def test_a_shared_factorisation_is_as_old_as_it_may_be():
    systems = Systems("diffusion", n=6)
    exact = {"ksp_type": "preonly", "pc_type": "lu", "pc_factor_mat_solver_type": "mumps"}
    arms = [Arm("exact", exact), Arm("lagged", {"ksp_type": "cg"}, lag=3, shares="exact")]
    with systems.tuned(arms) as solver:
        lender, lagged = solver._solvers
        steps = []
        for sample in range(8):
            matrix = systems.matrix(sample)
            solver.system.load(matrix, systems.rhs)
            size = solver.system.rhs.norm()
            attempt = (lender if sample == 0 else lagged).attempt(solver.system, 1e-10 * size, np.inf)
            assert attempt.failure == ""
            steps.append(attempt.iterations)
            found = systems.order.gather(solver.system.solution())
            np.testing.assert_allclose(found, systems.direct(matrix), atol=1e-8 * np.abs(found).max())
    assert [count <= 2 for count in steps] == [sample % 3 == 0 for sample in range(8)]
    with systems.tuned([Arm("lagged", {"ksp_type": "cg"}, shares="nobody")]) as solver:
        assert "'nobody', which is not there" in solver.dropped["lagged"]


@pytest.mark.mpi
def test_an_arm_that_is_stopped_is_replaced_by_the_quickest(monkeypatch):
    monkeypatch.setattr(spon.TunedSolver, "_budget", lambda solver, early: 0.0 if early else np.inf)
    monkeypatch.setattr(ArmSolver, "_late", lambda solver, residual: 9.0)  # seconds that it would take
    systems = Systems("diffusion", n=12)
    arms = [Arm("exact", {"ksp_type": "preonly", "pc_type": "lu", "pc_factor_mat_solver_type": "mumps"})]
    arms.append(Arm("crawling", JACOBI))
    with systems.tuned(arms) as solver:
        for sample in range(3):
            matrix = systems.matrix(sample)
            found = systems.order.gather(solver.solve(matrix, systems.rhs))
            np.testing.assert_allclose(found, systems.direct(matrix), atol=1e-8 * np.abs(found).max())
        tried = [record for record in solver.log if record.arm == "crawling"]
        assert [record.solver for record in tried] == ["exact"]
        assert solver.costs.keys() == {"exact", "crawling"}
        assert not solver.untried


@pytest.mark.mpi
@pytest.mark.usefixtures("steady")
def test_trials_are_divided_and_what_others_know_is_not_tried():
    systems = Systems("diffusion", n=6)
    arms = [Arm(name, JACOBI) for name in "abcde"]
    matrix = systems.matrix(0)
    with systems.tuned(arms) as solver:
        solver.divide_trials(1, 2)
        while len(tried := list(dict.fromkeys(record.arm for record in solver.log))) < 3:
            solver.solve(matrix, systems.rhs)
        assert tried == ["a", "b", "d"]
        solver.learn({"c": 1e3, "e": 2e3, "unknown": 1.0})
        for _ in range(12):
            solver.solve(matrix, systems.rhs)
        assert {record.arm for record in solver.log} == {"a", "b", "d"}
        assert set(solver.costs) == {"a", "b", "d"}  # its own


@pytest.mark.parametrize(
    ("spent", "residual", "early", "stopped"),
    [
        (0.3, 0.5, True, True),  # 33 times as long
        (0.3, 2.0, True, True),  # it grows
        (0.3, 0.5, False, False),  # the quickest has its time
        (0.2, 0.5, True, False),  # too soon to say
        (0.3, 1e-4, True, False),  # 2.5 times as long: less than it may
        (1.1, 1e-9, False, True),  # its time is over
    ],
)
def test_an_arm_is_stopped_as_soon_as_it_is_clearly_slow(monkeypatch, spent, residual, early, stopped):
    monkeypatch.setattr("spon.fem.arms.time.perf_counter", lambda: 100.0 + spent)
    solver = ArmSolver(MPI.COMM_SELF, Arm("cg", JACOBI))
    solver._start = solver._iterating = 100.0
    solver._first, solver._target, solver._seconds, solver._early = 1.0, 1e-10, 1.0, early
    projected = solver._late(residual)
    assert (projected > 0) == stopped
    if stopped:
        assert projected >= 1.0
    solver.destroy()


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize(
    ("symmetric", "definite"), [(True, True), (True, False), (False, True), (False, False)]
)
@pytest.mark.parametrize("unknowns", [1000, 100_000, 1_000_000])
def test_standard_arms_lend_before_they_borrow(dim, symmetric, definite, unknowns):
    arms = standard_arms(MPI.COMM_SELF, unknowns, dim, symmetric, definite, singular=False)
    names = [arm.name for arm in arms]
    assert len(set(names)) == len(names)
    for k, arm in enumerate(arms):
        assert arm.shares in ("", *names[:k])
    factorised = any(arm.options["ksp_type"] == "preonly" for arm in arms)
    assert factorised == (unknowns <= 200_000)
