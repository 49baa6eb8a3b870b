"""Reduced systems: the solution is admissible and Galerkin-orthogonal, for every kind of constraint."""

import basix.ufl
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import ufl
from dolfinx import fem
from mpi4py import MPI
from test_canonical import curved, shuffled

import spon
from meshes import box, mapped
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD
X, Y = ("left", "right"), ("bottom", "top")


def wavy(x):
    return [x[i] + 0.05 * np.sin(2 * np.pi * x[(i + 1) % len(x)]) for i in range(len(x))]


def straight(mesh):
    return lambda element: fem.functionspace(mesh.dolfinx, element)


def lagrange(mesh):
    V = straight(mesh)(("Lagrange", 3))
    ends = spon.dirichlet(mesh, V, {"bottom": 1.0, "top": lambda x: np.sin(2 * np.pi * x[0])})
    return V, spon.periodic(mesh, V, [X]).intersect(ends)


def components(mesh):
    V = straight(mesh)(("Lagrange", 2, (2,)))
    return V, spon.dirichlet(mesh, V, {"left": (0.0, None), "right": (None, lambda x: 0.3 * x[1])})


def curls(mesh):
    V = straight(mesh)(("RT", 2))
    return V, spon.divergence_free(mesh, V, periodic=[X, Y])


def moments(mesh):
    V = straight(mesh)(("N1curl", 2))
    return V, spon.dirichlet(mesh, V, {"left": (1.0, 0.0, 0.5), "top": (1.0, 0.0, 0.5)})


def faces(mesh):
    V = straight(mesh)(("RT", 2))
    return V, spon.divergence_free(mesh, V, ["left", "top"])


def mixed(mesh):
    kinds = [("P", 2, (2,)), ("P", 1, None), ("RT", 2, None)]
    elements = [basix.ufl.element(f, "triangle", k, shape=s) for f, k, s in kinds]
    V = straight(mesh)(basix.ufl.mixed_element(elements))
    slip = spon.slip(mesh, V, ["left"], part=2)
    return V, spon.dirichlet(mesh, V, {"top": (1.0, None)}).intersect(slip)


CASES = [
    ("triangle", lagrange),
    ("triangle", components),
    ("triangle", curls),
    ("triangle", mixed),
    ("tetrahedron", moments),
    ("tetrahedron", faces),
]


def system(space):
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    x = ufl.SpatialCoordinate(space.mesh)
    n = v.ufl_shape[0] if v.ufl_shape else 1
    load = x[0] * v if n == 1 else sum((k + 1 + x[k % 2] ** 2) * v[k] for k in range(n))
    a = ufl.inner(u, v) + 0.01 * ufl.inner(ufl.grad(u), ufl.grad(v))
    return assembled(a * ufl.dx), assembled_vector(load * ufl.dx)


@pytest.mark.mpi
@pytest.mark.parametrize(("cell", "case"), CASES, ids=[c.__name__ for _, c in CASES])
def test_the_solution_is_that_of_the_reduced_canonical_system(cell, case):
    mesh = TaggedMesh(mapped(shuffled(box(cell, 4 if cell == "triangle" else 2)), wavy), WORLD)
    space, constraint = case(mesh)
    order = CanonicalOrder(mesh, space)
    matrix, rhs = system(space)
    A, b = order.matrix(matrix), order.gather_dual(rhs.array_r)
    Z = constraint.Z
    for shift in (constraint.shift, 2.0 * constraint.shift):
        with spon.ConstrainedSolver(order, constraint) as solver:
            for _ in range(2):  # the second time with the matrices of the first
                u = order.gather(solver.solve(matrix, rhs, shift=shift))
        free = spla.spsolve(sp.csc_array(Z.T @ A @ Z), Z.T @ (b - A @ shift))
        np.testing.assert_allclose(u, Z @ free + shift, atol=1e-10 * np.abs(u).max())
        residual = np.abs(Z.T @ (A @ u - b)).max()
        assert residual <= 1e-12 * (abs(Z).T @ (abs(A) @ np.abs(u))).max()
        assert constraint.with_shift(shift).violation(u[None])[0] <= 1e-12 * np.abs(u).max()


@pytest.mark.mpi
def test_prescribed_and_tied_values_are_exact_to_the_last_bit():
    mesh = TaggedMesh(mapped(shuffled(box("triangle", 4)), wavy), WORLD)
    space, constraint = lagrange(mesh)
    order = CanonicalOrder(mesh, space)
    matrix, rhs = system(space)
    options = {"ksp_type": "cg", "pc_type": "hypre", "ksp_rtol": 1e-3}  # exact all the same
    with spon.ConstrainedSolver(order, constraint, options) as solver:
        u = order.gather(solver.solve(matrix, rhs))
    np.testing.assert_array_equal(u[constraint.fixed], constraint.shift[constraint.fixed])
    columns = sp.csc_array(constraint.Z)
    pairs = np.flatnonzero(np.diff(columns.indptr) == 2)
    assert len(pairs) > 0
    first = columns.indptr[pairs]
    np.testing.assert_array_equal(u[columns.indices[first]], u[columns.indices[first + 1]])


@pytest.mark.mpi
@pytest.mark.parametrize("options", [None, {"ksp_type": "cg", "pc_type": "gamg", "ksp_rtol": 1e-12}])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_singular_systems_have_the_solution_of_mean_zero(options, shape):
    mesh = TaggedMesh(mapped(shuffled(box("triangle", 5)), wavy), WORLD)
    space = fem.functionspace(mesh.dolfinx, ("Lagrange", 2, shape))
    order = CanonicalOrder(mesh, space)
    constraint = spon.periodic(mesh, space, [X, Y])
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    x = ufl.SpatialCoordinate(mesh.dolfinx)
    f = 3.0 + ufl.sin(2 * ufl.pi * x[0])  # the constant part has no solution and is left out
    L = (f * v if not shape else f * v[0] + x[1] * v[1]) * ufl.dx
    a = ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
    found = spon.solve(order, a, L, constraint, options=options, nullspace="constants")
    for component in [found] if not shape else ufl.split(found):
        mean = WORLD.allreduce(fem.assemble_scalar(fem.form(component * ufl.dx)))
        assert abs(mean) <= 1e-14
    values = order.gather(found.x.array)
    assert constraint.violation(values[None])[0] <= 1e-15 * np.abs(values).max()
    # A u = b − (the constant that makes it solvable), tested with all admissible functions
    matrix, rhs = assembled(a), assembled_vector(L)
    A, b = order.matrix(matrix), order.gather_dual(rhs.array_r)
    left = (constraint.Z.T @ (A @ values - b)).reshape(-1, *shape)
    ones = spon.dirichlet(mesh, space, {}).shift + 1.0
    volume = constraint.Z.T @ (order.matrix(assembled(ufl.inner(u, v) * ufl.dx)) @ ones)
    volume = volume.reshape(-1, *shape)
    np.testing.assert_allclose(
        left, -volume * (b.reshape(-1, *shape).sum(axis=0) / volume.sum(axis=0)), atol=1e-11
    )


@pytest.mark.mpi
def test_forms_that_are_not_linear_are_refused():
    mesh = TaggedMesh(box("triangle", 3), WORLD)
    space = spon.lagrange(mesh)
    u, v, w = ufl.TrialFunction(space), ufl.TestFunction(space), fem.Function(space)
    good = (u * v * ufl.dx, v * ufl.dx)
    for a, L, message in [
        (u * v**2 * ufl.dx, good[1], "a is not linear in u and v: .*; allowed: a.u, v. linear"),
        (w * v * ufl.dx, good[1], "a has 1 arguments of UFL; allowed: two"),
        (good[0], (1 + v) * ufl.dx, "L is not linear in v: .*; allowed: L.v. linear in v"),
        (good[0], 1.0, "L has 0 arguments of UFL; allowed: one"),
    ]:
        with pytest.raises(spon.SponError, match=message):
            spon.solve(spon.CanonicalOrder(mesh, space), a, L, spon.dirichlet(mesh, space, {"left": 0.0}))


@pytest.mark.mpi
def test_failures_are_named():
    mesh = TaggedMesh(mapped(shuffled(box("triangle", 5)), curved), WORLD)
    space = spon.lagrange(mesh)
    order = CanonicalOrder(mesh, space)
    free = spon.Constraint.none(order.size)
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    matrix = assembled(ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx)
    rhs = assembled_vector(ufl.SpatialCoordinate(mesh.dolfinx)[0] * v * ufl.dx)
    few = {"ksp_type": "cg", "pc_type": "jacobi", "ksp_max_it": 2}
    with spon.ConstrainedSolver(order, free, few) as solver:
        message = r"did not converge: DIVERGED_MAX_IT after 2 iterations, residual norm [\d.e+-]+, "
        with pytest.raises(spon.SponError, match=message):
            solver.solve(matrix, rhs)
        broken = rhs.copy()
        broken.set(np.nan)
        with pytest.raises(spon.SponError, match="right-hand side is not finite"):
            solver.solve(matrix, broken)
        with pytest.raises(spon.SponError, match="shift"):
            solver.solve(matrix, rhs, shift=np.zeros(3))
    with (
        spon.ConstrainedSolver(order, free) as solver,
        pytest.raises(spon.SponError, match=r"DIVERGED_PCSETUP_FAILED|the matrix is singular"),
    ):
        solver.solve(matrix, rhs)
    with pytest.raises(spon.SponError, match="PETSc refuses the options"):
        spon.ConstrainedSolver(order, free, {"pc_type": "nonsense"})
    with pytest.raises(spon.SponError, match="does not admit the nullspace"):
        spon.ConstrainedSolver(order, spon.dirichlet(mesh, space, {"left": 0.0}), nullspace="constants")
    with pytest.raises(spon.SponError, match="allowed: 'constants'"):
        spon.ConstrainedSolver(order, free, nullspace="rotations")
    with pytest.raises(spon.SponError, match="nullspace of shape"):
        spon.ConstrainedSolver(order, free, near_nullspace=np.ones((2, 3)))


@pytest.mark.mpi
def test_rigid_motions_speed_up_algebraic_multigrid():
    mesh = TaggedMesh(shuffled(box("triangle", 12)), WORLD)
    space = fem.functionspace(mesh.dolfinx, ("Lagrange", 1, (2,)))
    order = CanonicalOrder(mesh, space)
    x = order.canonical.nodes
    motions = np.stack([np.tile([1.0, 0.0], len(x)), np.tile([0.0, 1.0], len(x))])
    motions = np.vstack([motions, np.stack([-x[:, 1], x[:, 0]], axis=1).ravel()])
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    strain = lambda w: ufl.sym(ufl.grad(w))  # noqa: E731
    matrix = assembled(ufl.inner(strain(u), strain(v)) * ufl.dx)
    rhs = assembled_vector(ufl.inner(ufl.as_vector((1.0, 2.0)), v) * ufl.dx)
    constraint = spon.dirichlet(mesh, space, {"left": 0.0})
    steps = []
    for near in (None, motions):
        options = {"ksp_type": "cg", "pc_type": "gamg", "ksp_rtol": 1e-10}
        with spon.ConstrainedSolver(order, constraint, options, near_nullspace=near) as solver:
            solver.solve(matrix, rhs)
            steps.append(solver.ksp.getIterationNumber())
    assert steps[1] < steps[0]


@pytest.mark.mpi
def test_columns_are_shared_evenly():
    mesh = TaggedMesh(shuffled(box("triangle", 12)), WORLD)
    space, constraint = curls(mesh)
    with spon.ConstrainedSolver(CanonicalOrder(mesh, space), constraint) as solver:
        counts = WORLD.allgather(solver.system.Z.getLocalSize()[1])
    assert sum(counts) == constraint.Z.shape[1]
    assert max(counts) <= 1.25 * np.mean(counts)
