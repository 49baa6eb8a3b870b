"""Projections onto mean zero and onto divergence-free fields, on any number of ranks."""

import pickle

import basix.ufl
import numpy as np
import pytest
import scipy.sparse as sp
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
PAIRS = [
    ("triangle", ("Lagrange", 2), ("Lagrange", 1)),
    ("triangle", ("RT", 1), ("DG", 0)),
    ("triangle", ("BDM", 2), ("DG", 1)),
    ("tetrahedron", ("RT", 1), ("DG", 0)),
]
WALLS = [(), ("left", "top"), "all"]


def pair(cell, velocity, pressure, walls, comm=WORLD):
    mesh = TaggedMesh(mapped(shuffled(box(cell, 4 if cell == "triangle" else 2)), curved), comm)
    d = mesh.arrays.gdim
    vector = velocity[0] == "Lagrange"
    V = fem.functionspace(mesh.dolfinx, (*velocity, (d,)) if vector else velocity)
    Q = fem.functionspace(mesh.dolfinx, pressure)
    walls = tuple(mesh.arrays.facet_names) if walls == "all" else walls
    constraint = spon.dirichlet(mesh, V, dict.fromkeys(walls, 0.0))
    return mesh, V, Q, constraint


@pytest.mark.mpi
@pytest.mark.parametrize(("cell", "velocity", "pressure"), PAIRS)
@pytest.mark.parametrize("walls", WALLS)
def test_the_projection_is_orthogonal_and_onto_divergence_free_fields(cell, velocity, pressure, walls, rng):
    mesh, V, Q, constraint = pair(cell, velocity, pressure, walls)
    P = spon.divergence_free_projection(mesh, V, Q, constraint)
    u, w = rng.standard_normal((2, 3, P.mass.shape[0]))
    Pu, Pw = P(u), P(w)
    assert P.violation(u).min() > 1e-3
    assert P.violation(Pu).max() <= 1e-12
    assert constraint.violation(Pu).max() <= 1e-12
    scale = np.abs(u).max()
    np.testing.assert_allclose(P(Pu), Pu, atol=1e-11 * scale)
    np.testing.assert_allclose(Pu @ (P.mass @ w.T), u @ (P.mass @ Pw.T), atol=1e-11 * scale)
    np.testing.assert_allclose(P(u[0]), Pu[0], atol=1e-12 * scale)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(P))(u), Pu, atol=1e-12 * scale)
    _, V1, Q1, constraint1 = pair(cell, velocity, pressure, walls, MPI.COMM_SELF)
    alone = spon.divergence_free_projection(_, V1, Q1, constraint1)(u)
    np.testing.assert_allclose(alone, Pu, atol=1e-10 * scale)


@pytest.mark.mpi
@pytest.mark.parametrize("walls", WALLS)
def test_projections_and_curls_know_the_same_fields(walls, rng):
    mesh, V, Q, constraint = pair("triangle", ("BDM", 2), ("DG", 1), walls)
    names = tuple(mesh.arrays.facet_names) if walls == "all" else walls
    curls = spon.divergence_free(mesh, V, names)
    P = spon.divergence_free_projection(mesh, V, Q, constraint)
    u = curls.expand(rng.standard_normal((2, curls.Z.shape[1])))
    np.testing.assert_allclose(P(u), u, atol=1e-11 * np.abs(u).max())
    assert curls.violation(P(rng.standard_normal((2, len(u[0]))))).max() <= 1e-10


@pytest.mark.mpi
def test_a_prescribed_flow_is_carried_by_the_shift(rng):
    mesh, V, Q, _ = pair("triangle", ("RT", 2), ("DG", 1), ())
    flow = {"left": lambda x: np.stack([x[1] * (2 - x[1]), 0 * x[0]]), "bottom": 0.0, "top": 0.0}
    flow["right"] = lambda x: np.stack([0.5 * np.ones_like(x[0]), 0 * x[0]])
    data = spon.dirichlet(mesh, V, flow)
    order = CanonicalOrder(mesh, V)
    # rescale the outflow, so that what flows in flows out
    n = ufl.FacetNormal(mesh.dolfinx)
    flux = {}
    u = fem.Function(V)
    order.scatter(data.shift, u)
    for name in ("left", "right"):
        flux[name] = WORLD.allreduce(fem.assemble_scalar(fem.form(ufl.dot(u, n) * mesh.ds(name))))
    shift = data.shift.copy()
    P = spon.divergence_free_projection(mesh, V, Q, data)
    with pytest.raises(spon.SponError, match="net flux"):
        P.lift(shift)
    shift[order.canonical.boundary_dofs("right").ravel()] *= -flux["left"] / flux["right"]
    constraint = spon.divergence_free(mesh, V, list(flow)).with_shift(P.lift(shift))
    values = constraint.expand(rng.standard_normal((1, constraint.Z.shape[1])))[0]
    fixed = np.flatnonzero(data.fixed)
    np.testing.assert_allclose(values[fixed], shift[fixed], atol=1e-12)
    order.scatter(values, u)
    size = np.sqrt(
        WORLD.allreduce(fem.assemble_scalar(fem.form(ufl.inner(ufl.grad(u), ufl.grad(u)) * ufl.dx)))
    )
    assert np.sqrt(WORLD.allreduce(fem.assemble_scalar(fem.form(ufl.div(u) ** 2 * ufl.dx)))) <= 1e-11 * size


@pytest.mark.mpi
def test_the_flux_through_a_pipe_is_carried_by_the_shift(rng):
    mesh, V, Q, _ = pair("tetrahedron", ("RT", 1), ("DG", 0), ())
    flow = dict.fromkeys(mesh.arrays.facet_names, 0.0)
    order = CanonicalOrder(mesh, V)
    ends = {}
    for name in ("left", "right"):  # the same flux through all facets of an end
        dofs = order.canonical.boundary_dofs(name).ravel()
        outward = ufl.dot(ufl.TestFunction(V), ufl.FacetNormal(mesh.dolfinx)) * mesh.ds(name)
        ends[name] = dofs, np.sign(order.gather_dual(assembled_vector(outward).array_r)[dofs])
    data = spon.dirichlet(mesh, V, flow)
    shift = np.zeros(order.size)
    for sign, (dofs, outward) in zip((-1, 1), ends.values(), strict=True):
        shift[dofs] = sign * outward / len(dofs)
    P = spon.divergence_free_projection(mesh, V, Q, data)
    constraint = spon.divergence_free(mesh, V, list(flow)).with_shift(P.lift(shift))
    u = constraint.expand(rng.standard_normal((2, constraint.Z.shape[1])))
    assert P.violation(u).max() <= 1e-12
    np.testing.assert_allclose(u[:, data.fixed], np.tile(shift[data.fixed], (2, 1)), atol=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize("element", [("Lagrange", 2), ("DG", 1)])
def test_the_mean_is_removed(element, rng):
    mesh = TaggedMesh(mapped(shuffled(box("triangle", 3)), curved), WORLD)
    order = CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, element))
    P = spon.zero_mean(order)
    p = rng.standard_normal((4, order.size))
    f = fem.Function(order.space)
    order.scatter(P(p)[2], f)
    assert abs(WORLD.allreduce(fem.assemble_scalar(fem.form(f * ufl.dx)))) <= 1e-14
    np.testing.assert_allclose(P(P(p)), P(p), atol=1e-14)
    np.testing.assert_allclose(P(p) - p, (P(p) - p)[:, :1] * np.ones(order.size), atol=1e-14)
    v = ufl.TestFunction(order.space)
    mass = order.matrix(assembled(ufl.TrialFunction(order.space) * v * ufl.dx))
    np.testing.assert_allclose(spon.ZeroMean.from_mass(mass)(p), P(p), atol=1e-13)


@pytest.mark.mpi
def test_the_mean_of_the_pressure_of_a_mixed_space(rng):
    mesh = TaggedMesh(shuffled(box("triangle", 3)), WORLD)
    vector = basix.ufl.element("P", "triangle", 2, shape=(2,))
    mixed = basix.ufl.mixed_element([vector, basix.ufl.element("P", "triangle", 1)])
    order = CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, mixed))
    values = rng.standard_normal(order.size)
    P = spon.zero_mean(order, part=1)
    f = fem.Function(order.space)
    order.scatter(P(values), f)
    assert abs(WORLD.allreduce(fem.assemble_scalar(fem.form(f.sub(1) * ufl.dx)))) <= 1e-14
    pressure = order.canonical.parts[1].offset
    np.testing.assert_array_equal(P(values)[:pressure], values[:pressure])
    with pytest.raises(spon.SponError, match="scalar member of a mixed one"):
        spon.zero_mean(order)


def test_unstable_pairs_and_wrong_sizes_are_refused(rng):
    mesh = TaggedMesh(box("triangle", 3), MPI.COMM_SELF)
    V = fem.functionspace(mesh.dolfinx, ("Lagrange", 1, (2,)))
    Q = fem.functionspace(mesh.dolfinx, ("DG", 1))
    P = spon.divergence_free_projection(mesh, V, Q)
    with pytest.raises(spon.SponError, match="pair of velocity and pressure is not stable"):
        P(np.ones(P.mass.shape[0]))
    with pytest.raises(spon.SponError, match="a vector space of 2 components"):
        spon.divergence_free_projection(mesh, Q, Q)
    with pytest.raises(spon.SponError, match="shapes"):
        spon.DivergenceFree(sp.csr_array((3, 3)), sp.csr_array((2, 4)), sp.csr_array((3, 1)), np.ones(2))
