"""Manufactured solutions converge at their rates, with each kind of constraint."""

import basix.ufl
import numpy as np
import pytest
import ufl
from dolfinx import fem
from mpi4py import MPI
from test_canonical import shuffled
from ufl import cos, div, grad, inner, pi, sin

import spon
from meshes import box
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD
SIDES = ("left", "right", "bottom", "top")


def norm(expression, measure=None):
    """L2 norm over the mesh, all ranks together."""
    measure = ufl.dx(degree=8) if measure is None else measure
    return np.sqrt(WORLD.allreduce(fem.assemble_scalar(fem.form(inner(expression, expression) * measure))))


def check_rates(problem, n, expected):
    """Solve on two meshes and compare log2 of the quotients of errors with the expected rates."""
    errors = [problem(TaggedMesh(shuffled(box("triangle", k)), WORLD)) for k in (n, 2 * n)]
    observed = np.log2(np.divide(*errors))
    np.testing.assert_allclose(observed, expected, atol=0.2)


@pytest.mark.mpi
@pytest.mark.parametrize(("degree", "n"), [(1, 12), (2, 6)])
def test_periodic_poisson(degree, n):
    def problem(mesh):
        V = fem.functionspace(mesh.dolfinx, ("Lagrange", degree))
        x = ufl.SpatialCoordinate(mesh.dolfinx)
        exact = sin(2 * pi * x[0]) * cos(2 * pi * x[1]) + cos(2 * pi * x[0])
        u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
        constraint = spon.periodic(mesh, V, [("left", "right"), ("bottom", "top")])
        a, L = inner(grad(u), grad(v)) * ufl.dx, -div(grad(exact)) * v * ufl.dx(degree=8)
        options = {"ksp_type": "cg", "pc_type": "hypre", "ksp_rtol": 1e-12}
        found = spon.solve(
            spon.CanonicalOrder(mesh, V), a, L, constraint, options=options, nullspace="constants"
        )
        return norm(found - exact), norm(grad(found - exact))

    check_rates(problem, n, (degree + 1, degree))


@pytest.mark.mpi
def test_elasticity_with_one_component_prescribed():
    def problem(mesh):
        V = fem.functionspace(mesh.dolfinx, ("Lagrange", 2, (2,)))
        x, n = ufl.SpatialCoordinate(mesh.dolfinx), ufl.FacetNormal(mesh.dolfinx)
        exact = ufl.as_vector((sin(2 * x[0] + x[1]), cos(x[0]) * sin(2 * x[1]) + x[0]))

        def stress(w):
            strain = ufl.sym(grad(w))
            return 2 * strain + 3 * ufl.tr(strain) * ufl.Identity(2)

        values = {
            "left": (lambda x: np.sin(2 * x[0] + x[1]), None),
            "bottom": (None, lambda x: np.cos(x[0]) * np.sin(2 * x[1]) + x[0]),
        }
        u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
        a = inner(stress(u), ufl.sym(grad(v))) * ufl.dx
        traction = ufl.dot(stress(exact), n)
        L = -inner(div(stress(exact)), v) * ufl.dx(degree=8) + inner(traction, v) * ufl.ds(degree=8)
        found = spon.solve(spon.CanonicalOrder(mesh, V), a, L, spon.dirichlet(mesh, V, values))
        return norm(found - exact), norm(grad(found - exact))

    check_rates(problem, 4, (3, 2))


def stokes_flow(mesh):
    """Exact velocity, at rest on all sides, and pressure of mean zero."""
    x = ufl.SpatialCoordinate(mesh.dolfinx)
    psi = (sin(pi * x[0]) * sin(pi * x[1])) ** 2
    return ufl.as_vector((psi.dx(1), -psi.dx(0))), 10 * cos(pi * x[0]) * sin(pi * x[1])


@pytest.mark.mpi
def test_stokes_with_taylor_hood():
    def problem(mesh):
        velocity = basix.ufl.element("P", "triangle", 2, shape=(2,))
        W = fem.functionspace(
            mesh.dolfinx, basix.ufl.mixed_element([velocity, basix.ufl.element("P", "triangle", 1)])
        )
        order = spon.CanonicalOrder(mesh, W)
        walls = spon.dirichlet(mesh, W, dict.fromkeys(SIDES, 0.0))
        exact, pressure = stokes_flow(mesh)
        (u, p), (v, q) = ufl.TrialFunctions(W), ufl.TestFunctions(W)
        a = (inner(grad(u), grad(v)) - p * div(v) - q * div(u)) * ufl.dx
        L = inner(-div(grad(exact)) + grad(pressure), v) * ufl.dx(degree=8)
        constant = spon.zero_mean(order, part=1).constant
        found = spon.solve(order, a, L, walls, nullspace=constant)
        u, p = ufl.split(found)
        assert abs(WORLD.allreduce(fem.assemble_scalar(fem.form(p * ufl.dx)))) <= 1e-13
        return norm(u - exact), norm(grad(u - exact)), norm(p - pressure)

    check_rates(problem, 8, (3, 2, 2))


@pytest.mark.mpi
@pytest.mark.parametrize(("family", "degree", "rate"), [("BDM", 1, 2), ("RT", 3, 3)])
def test_stokes_without_pressure_by_the_curl(family, degree, rate):
    """Interior penalty and Nitsche for the tangential component; the normal one is in the space."""

    def problem(mesh):
        V = fem.functionspace(mesh.dolfinx, (family, degree))
        n, h = ufl.FacetNormal(mesh.dolfinx), ufl.CellDiameter(mesh.dolfinx)
        exact, pressure = stokes_flow(mesh)
        u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
        penalty = 3.0 * rate**2

        def jump(w):
            return ufl.outer(w("+"), n("+")) + ufl.outer(w("-"), n("-"))

        a = inner(grad(u), grad(v)) * ufl.dx
        a += penalty / ufl.avg(h) * inner(jump(u), jump(v)) * ufl.dS
        a -= (inner(ufl.avg(grad(u)), jump(v)) + inner(jump(u), ufl.avg(grad(v)))) * ufl.dS
        a += penalty / h * inner(u, v) * ufl.ds
        a -= (inner(grad(u), ufl.outer(v, n)) + inner(ufl.outer(u, n), grad(v))) * ufl.ds
        L = inner(-div(grad(exact)) + grad(pressure), v) * ufl.dx(degree=8)
        curl = spon.divergence_free(mesh, V, impermeable=SIDES)
        found = spon.solve(spon.CanonicalOrder(mesh, V), a, L, curl)
        assert norm(div(found)) <= 1e-12 * norm(grad(found))
        normal = ufl.dot(found, n)
        assert norm(normal, ufl.ds) <= 1e-13 * norm(found)
        return norm(found - exact), norm(grad(found - exact))

    check_rates(problem, 16, (rate, rate - 1))
