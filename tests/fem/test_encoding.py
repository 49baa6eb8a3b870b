"""Encoders of inputs: what they compute, and what they refuse."""

import basix.ufl
import numpy as np
import pytest
import ufl
from dolfinx import fem
from mpi4py import MPI
from test_canonical import CELLS, polynomial, some_mesh

import spon
from meshes import box
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD


def space(mesh, *element):
    return fem.functionspace(mesh.dolfinx, element)


def total(form):
    return WORLD.allreduce(fem.assemble_scalar(fem.form(form)))


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("element", [("Lagrange", 2), ("DG", 1), ("RT", 1)])
def test_projection_is_orthogonal_and_leaves_the_space_alone(cell, element):
    mesh = some_mesh(cell)
    V = space(mesh, *element)
    project = spon.Projection(mesh, V)
    f = fem.Function(V)
    f.x.array[:] = np.random.default_rng(WORLD.rank).standard_normal(len(f.x.array))
    f.x.scatter_forward()
    np.testing.assert_allclose(project(f), spon.Dofs(mesh, V)(f), atol=1e-10)
    x = ufl.SpatialCoordinate(mesh.dolfinx)
    rough = ufl.sin(3 * x[0]) * (x if element[0] == "RT" else x[1])
    found = fem.Function(V)
    project.order.scatter(project(rough), found)
    moments = spon.Moments(mesh, V)
    np.testing.assert_allclose(moments(found), moments(rough), atol=1e-11)


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_moments_are_integrals_and_their_features_local_means(cell):
    mesh = some_mesh(cell)
    for V, components in ((space(mesh, "Lagrange", 1), 1), (space(mesh, "DG", 0, (2,)), 2)):
        encoder = spon.Moments(mesh, V)
        one = fem.Constant(mesh.dolfinx, 2.0 if components == 1 else (2.0, 2.0))
        b = encoder(one)
        assert b.sum() == pytest.approx(2.0 * components * total(1.0 * ufl.dx(mesh.dolfinx)), rel=1e-12)
        frozen = encoder.freeze(2)
        np.testing.assert_allclose(frozen.features @ b, 2.0, atol=1e-12)
        values = np.random.default_rng(0).standard_normal(frozen.dofs)
        f = fem.Function(V)
        encoder.order.scatter(values, f)
        np.testing.assert_allclose(
            spon.Moments(mesh, V)(f), spon.Dofs(mesh, V).freeze(1).mass @ values, atol=1e-13
        )


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_sensors_measure_and_their_features_keep_constants(cell):
    mesh = TaggedMesh(box(cell, 2), WORLD)
    d = mesh.arrays.gdim
    points = np.random.default_rng(1).random((9, d))
    p = polynomial(d, 2, d)
    V = space(mesh, "Lagrange", 2, (d,))
    f = fem.Function(V)
    f.interpolate(lambda x: p(x[:d]))
    sensors = spon.Sensors(mesh, points, components=d)
    np.testing.assert_allclose(sensors(f).reshape(-1, d).T, p(points.T), atol=1e-12)
    np.testing.assert_allclose(sensors(lambda x: p(x[:d])), sensors(f), atol=1e-12)
    frozen = sensors.freeze(2)
    np.testing.assert_allclose(
        frozen.features @ np.tile(np.arange(1.0, d + 1), 9), np.tile(np.arange(1.0, d + 1), 5**d), atol=1e-12
    )
    nodal = spon.Dofs(mesh, V)(f)
    np.testing.assert_allclose(frozen.interpolation @ nodal, sensors(f), atol=1e-12)
    here = spon.Sensors(mesh, mesh.arrays.points[:5])
    values = np.arange(5.0)
    at_nodes = here.freeze(1).features @ values
    np.testing.assert_allclose(at_nodes[:5], values, atol=1e-9)  # a node takes the sensor that sits on it
    with pytest.raises(spon.SponError, match="outside"):
        spon.Sensors(mesh, [[2.0] * d])
    with pytest.raises(spon.SponError, match=f"a function of {d} components at the sensors; allowed: 1"):
        spon.Sensors(mesh, points)(f)


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_traces_are_values_on_the_boundary(cell):
    mesh = some_mesh(cell)
    d = mesh.arrays.gdim
    for element in (("Lagrange", 2), ("Lagrange", 1, (d,)), ("RT", 1), ("N1curl", 1)):
        V = space(mesh, *element)
        f, n = fem.Function(V), ufl.FacetNormal(mesh.dolfinx)
        f.x.array[:] = np.random.default_rng(WORLD.rank + 1).standard_normal(len(f.x.array))
        f.x.scatter_forward()
        trace = spon.Trace(mesh, V, "top")
        values, frozen = trace(f), trace.freeze(2)
        square = ufl.inner(f, f)
        if element[0] == "RT":
            square = ufl.dot(f, n) ** 2
        elif element[0] == "N1curl":
            square = ufl.inner(f, f) - ufl.dot(f, n) ** 2
        assert values @ (frozen.mass @ values) == pytest.approx(total(square * mesh.ds("top")), rel=1e-10)
        assert frozen.features.shape[1] == len(values) == frozen.dofs
    with pytest.raises(spon.SponError, match="boundary 'inlet' not found in box"):
        spon.Trace(mesh, V, "inlet")


@pytest.mark.mpi
def test_boundary_data_as_input_are_the_output_there(rng):
    """g on a named boundary in, u_g = g there to the last bit, harmonic inside."""
    mesh = TaggedMesh(box("triangle", 6), WORLD)
    V = space(mesh, "Lagrange", 2)
    constraint = spon.dirichlet(mesh, V, {"left": 0.0, "right": 3.0})
    trace = spon.Trace(mesh, V, "left")
    d = spon.discretise(spon.Hierarchy.uniform(mesh, 0), V, constraint, {"g": trace})
    g = np.stack([trace(lambda x, k=k: np.cos(k * x[1])) for k in range(3)])
    u = d.with_boundary_data(g, "left")
    np.testing.assert_array_equal(u[:, d.boundary_dofs["left"]], g)
    np.testing.assert_array_equal(u[:, d.boundary_dofs["right"]], 3.0)
    assert np.abs(d.constraint.Z.T @ (d.output.stiffness @ u.T)).max() < 1e-12
    np.testing.assert_allclose(
        d.with_boundary_data(np.zeros_like(g), "left")[0], d.constraint.shift, atol=1e-12
    )
    with pytest.raises(spon.SponError, match=r"boundary 'inlet'; allowed: 'left', 'right'"):
        d.with_boundary_data(g, "inlet")
    with pytest.raises(spon.SponError, match="DoFs on boundary 'top' are not prescribed"):
        d.with_boundary_data(g, "top")
    with pytest.raises(spon.SponError, match=r"boundary data of shape \(3, 12\); allowed: \(samples, 13\)"):
        d.with_boundary_data(g[:, 1:], "left")


def test_boundary_data_of_one_component_leave_free_components_alone():
    mesh = TaggedMesh(box("triangle", 4), MPI.COMM_SELF)
    V = space(mesh, "Lagrange", 1, (2,))
    d = spon.discretise(spon.Hierarchy.uniform(mesh, 0), V, spon.dirichlet(mesh, V, {"left": (1.0, None)}))
    fixed = int(d.constraint.fixed.sum())
    u = d.with_boundary_data(np.full((1, fixed), 2.0)).reshape(-1, 2)
    np.testing.assert_allclose(u, np.tile([2.0, 0.0], (25, 1)), atol=1e-12)
    np.testing.assert_allclose(d.constraint.shift.reshape(-1, 2), np.tile([1.0, 0.0], (25, 1)), atol=1e-12)


def test_parameters_are_the_same_everywhere():
    mesh = TaggedMesh(box("quadrilateral", 2), MPI.COMM_SELF)
    load = spon.Parameters(mesh, ["E", "nu"])
    np.testing.assert_array_equal(load([2.0, 0.3]), [2.0, 0.3])
    frozen = load.freeze(1)
    np.testing.assert_array_equal(
        (frozen.features @ load([2.0, 0.3])).reshape(9, 2), np.tile([2.0, 0.3], (9, 1))
    )
    np.testing.assert_allclose(frozen.interpolation @ (frozen.features @ load([2.0, 0.3])), [2.0, 0.3])
    with pytest.raises(spon.SponError, match="1 parameters; allowed: 2: E, nu"):
        load([2.0])
    with pytest.raises(spon.SponError, match="no parameter; allowed: one name or more"):
        spon.Parameters(mesh, [])


@pytest.mark.mpi
def test_unsuitable_inputs_are_refused():
    mesh, other = (TaggedMesh(box("triangle", 2), WORLD) for _ in range(2))
    V, W = space(mesh, "Lagrange", 1), space(other, "Lagrange", 1)
    hierarchy = spon.Hierarchy.uniform(mesh, 0)
    with pytest.raises(spon.SponError, match="the space lives on another mesh than box"):
        spon.discretise(hierarchy, W)
    with pytest.raises(spon.SponError, match="the space lives on another mesh than box"):
        spon.discretise(hierarchy, V, inputs={"k": W})
    with pytest.raises(spon.SponError, match="input 'k' lives on another mesh than box"):
        spon.discretise(hierarchy, V, inputs={"k": spon.Parameters(other, ["a"])})
    with pytest.raises(spon.SponError, match="a constraint on 25 DoFs; allowed: 9, as P1 triangle has"):
        spon.discretise(hierarchy, V, spon.Constraint.none(25))
    with pytest.raises(spon.SponError, match="degree = -1; allowed: 1, 2"):
        spon.discretise(hierarchy, V, degree=-1)
    with pytest.raises(
        spon.SponError, match="one in the space of the encoder, P1 triangle, or use Projection"
    ):
        spon.Dofs(mesh, V)(fem.Function(space(mesh, "DG", 0)))
    mixed = basix.ufl.mixed_element([basix.ufl.element("P", "triangle", k) for k in (1, 2)])
    M = fem.functionspace(mesh.dolfinx, mixed)
    with pytest.raises(spon.SponError, match="a trace of the mixed space"):
        spon.Trace(mesh, M, "left")
    with pytest.raises(spon.SponError, match="cannot interpolate into the mixed space"):
        spon.Dofs(mesh, M)(lambda x: x[0])
