"""Recycled solves of Helmholtz problems: right to the tolerance, and in fewer iterations."""

import numpy as np
import pytest
import ufl
from dolfinx import fem
from mpi4py import MPI

import spon
from meshes import box
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh
from spon.fem.recycling import RecyclingSolver


class Helmholtz:
    """−Δu − k² n u = f, ∂u/∂n = i k u, u = 0 on the left; real and imaginary part as a vector."""

    def __init__(self, comm=MPI.COMM_SELF, n=14):
        mesh = TaggedMesh(box("triangle", n), comm)
        space = spon.lagrange(mesh, components=2)
        self.order = CanonicalOrder(mesh, space)
        self.constraint = spon.dirichlet(mesh, space, {"left": (1.0, 0.5)})
        self.medium = fem.Function(spon.lagrange(mesh))
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        k = 8.0
        self.form = ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
        self.form += -(k**2) * self.medium * ufl.inner(u, v) * ufl.dx
        self.form += k * ufl.inner(ufl.as_vector((u[1], -u[0])), v) * ufl.ds
        self.rhs = assembled_vector(v[0] * ufl.dx)

    def matrix(self, contrast):
        self.medium.interpolate(lambda x: 1.0 + contrast * np.cos(3 * x[0]) * np.cos(2 * x[1]))
        return assembled(self.form)


CONTRASTS = np.linspace(0.0, 0.3, 8)


@pytest.mark.parametrize("preconditioner", ["lu", "ilu"])
def test_solutions_are_those_of_a_factorisation(preconditioner):
    problem = Helmholtz()
    with (
        RecyclingSolver(problem.order, problem.constraint, preconditioner=preconditioner, every=3) as solver,
        spon.ConstrainedSolver(problem.order, problem.constraint) as direct,
    ):
        for contrast in CONTRASTS:
            matrix = problem.matrix(contrast)
            found, expected = (s.solve(matrix, problem.rhs) for s in (solver, direct))
            np.testing.assert_allclose(found, expected, atol=1e-7 * np.abs(expected).max())
            values = problem.order.gather(found)[None]
            assert problem.constraint.violation(values)[0] == 0.0
        log = solver.log
    assert [record.fresh for record in log] == [i % 3 == 0 for i in range(8)]
    assert max(record.residual for record in log) <= 1.01e-10


@pytest.mark.parametrize("preconditioner", ["lu", None])
def test_recycling_saves_iterations(preconditioner):
    problem = Helmholtz(n=14 if preconditioner else 8)
    matrices = [problem.matrix(contrast) for contrast in CONTRASTS]
    steps = {}
    for recycled in (0, 20):
        settings = {"rtol": 1e-8, "recycled": recycled, "preconditioner": preconditioner, "inner": 40}
        with RecyclingSolver(problem.order, problem.constraint, products=20000, **settings) as solver:
            for matrix in matrices:
                solver.solve(matrix, problem.rhs)
            steps[recycled] = [record.preconditioned for record in solver.log]
    assert steps[20][0] == steps[0][0] or preconditioner is None
    assert sum(steps[20][1:]) < 0.9 * sum(steps[0][1:])


def test_another_load_for_the_same_matrix_needs_no_product_with_recycled_vectors():
    problem = Helmholtz()
    matrix = problem.matrix(0.2)
    other = problem.rhs.copy()
    other.shift(1e-3)
    with RecyclingSolver(problem.order, problem.constraint) as solver:
        solver.solve(problem.matrix(0.0), problem.rhs)
        for rhs in (problem.rhs, problem.rhs, other):
            found = solver.solve(matrix, rhs)
        log = solver.log
    with spon.ConstrainedSolver(problem.order, problem.constraint) as direct:
        np.testing.assert_allclose(found, direct.solve(matrix, other), atol=1e-7 * np.abs(found).max())
    assert log[1].products > log[1].preconditioned + 1
    assert log[2].preconditioned <= 1  # the solution is in the subspace


@pytest.mark.mpi
def test_several_ranks_and_impossible_settings_are_refused():
    problem = Helmholtz(MPI.COMM_WORLD)
    if MPI.COMM_WORLD.size > 1:
        with pytest.raises(spon.SponError, match="ranks; allowed: 1"):
            RecyclingSolver(problem.order, problem.constraint)
    problem = Helmholtz()
    for bad in ({"rtol": 0.0}, {"inner": 0}, {"recycled": -1}, {"every": -1}, {"products": 0}):
        with pytest.raises(spon.SponError, match="allowed: above 0 below 1"):
            RecyclingSolver(problem.order, problem.constraint, **bad)
    with pytest.raises(spon.SponError, match="preconditioner 'amg'"):
        RecyclingSolver(problem.order, problem.constraint, preconditioner="amg")
    matrix = problem.matrix(0.1)
    with (
        RecyclingSolver(problem.order, problem.constraint, preconditioner=None, products=20) as solver,
        pytest.raises(spon.SponError, match="did not converge: residual norm"),
    ):
        solver.solve(matrix, problem.rhs)
    problem.rhs.set(np.nan)
    with (
        RecyclingSolver(problem.order, problem.constraint) as solver,
        pytest.raises(spon.SponError, match="not finite"),
    ):
        solver.solve(matrix, problem.rhs)
