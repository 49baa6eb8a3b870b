import numpy as np
import pytest
from conftest import on_square, square
from mpi4py import MPI

import spon
from meshes import box, mapped
from spon.fem.assembly import lagrange
from spon.fem.mesh import TaggedMesh
from spon.fem.rebuild import Elsewhere, nearest_on, rebuilt_mesh, rebuilt_space
from spon.fem.spaces import CanonicalSpace

ALONE = MPI.COMM_SELF


@pytest.mark.parametrize("kind", ["triangle", "quadrilateral", "tetrahedron", "hexahedron"])
@pytest.mark.parametrize(("geometry", "degree"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_mesh_and_space_come_back_in_the_same_order(kind, geometry, degree):
    mesh = TaggedMesh(mapped(box(kind, 2, geometry), lambda x: (x[0] + 0.2 * x[1] ** 2, *x[1:])), ALONE)
    V = lagrange(mesh, degree, 2)
    d = spon.discretise(spon.Hierarchy.algebraic(mesh, 0), V, degree=degree)
    again = rebuilt_mesh(d)
    space, known = rebuilt_space(again, d.output.element), CanonicalSpace(mesh, V.ufl_element())
    np.testing.assert_allclose(space.nodes, known.nodes, atol=1e-14)
    assert space.name == known.name
    for name in d.boundaries:
        np.testing.assert_array_equal(space.boundary_dofs(name).ravel(), d.boundary_dofs[name])


def test_elements_that_have_no_nodes_are_refused():
    with pytest.raises(spon.SponError, match="cannot make the space RT1 triangle again; allowed: Lagrange"):
        rebuilt_space(TaggedMesh(square(2), ALONE), "RT1 triangle")


@pytest.mark.parametrize("degree", [1, 2])
def test_polynomials_move_exactly_and_boundary_values_are_imposed(degree):
    mesh, other = on_square(4, 0).finest, TaggedMesh(square(7), ALONE)
    V = lagrange(mesh, degree)
    constraint = spon.dirichlet(mesh, V, {"left": lambda x: x[1] ** degree, "top": lambda x: 1 + x[0]})
    d = spon.discretise(spon.Hierarchy.algebraic(mesh, 0), V, constraint)
    elsewhere = Elsewhere(d, other)
    x, y = CanonicalSpace(mesh, V.ufl_element()).nodes.T
    a, b = elsewhere.space.nodes.T
    values, prescribed = elsewhere(np.stack([x + y**degree, 2 * x - 1]))
    np.testing.assert_allclose(values, np.stack([a + b**degree, 2 * a - 1]), atol=1e-13)
    np.testing.assert_array_equal(values[:, elsewhere.dofs], prescribed)
    on = (a == 0) | (b == 1)
    assert elsewhere.dofs.tolist() == np.flatnonzero(on).tolist()


def test_values_on_a_curved_boundary_come_from_that_boundary():
    """On a ring of coarse cells the nodes of a finer mesh lie outside; they get the boundary's value."""

    def ring(n):
        return TaggedMesh(
            mapped(square(n), lambda x: ((1 + x[0]) * np.cos(1.5 * x[1]), (1 + x[0]) * np.sin(1.5 * x[1]))),
            ALONE,
        )

    mesh, fine = ring(4), ring(16)
    V = lagrange(mesh, 1)
    d = spon.discretise(
        spon.Hierarchy.algebraic(mesh, 0), V, spon.dirichlet(mesh, V, {"left": 0.0, "right": 5.0})
    )
    elsewhere = Elsewhere(d, fine)
    u = np.random.default_rng(0).standard_normal((1, d.dofs))
    u = d.constraint.expand(d.constraint.free(u))
    values, _ = elsewhere(u)
    space = elsewhere.space
    np.testing.assert_allclose(values[0, space.boundary_dofs("left").ravel()], 0.0, atol=1e-12)
    np.testing.assert_allclose(values[0, space.boundary_dofs("right").ravel()], 5.0, atol=1e-12)


def test_components_are_prescribed_one_by_one():
    mesh, other = on_square(3, 0).finest, TaggedMesh(square(5), ALONE)
    V = lagrange(mesh, 1, 2)
    constraint = spon.dirichlet(mesh, V, {"left": (None, lambda x: x[1])})
    elsewhere = Elsewhere(spon.discretise(spon.Hierarchy.algebraic(mesh, 0), V, constraint), other)
    left = elsewhere.space.boundary_dofs("left")
    assert elsewhere.dofs.tolist() == sorted(left[:, 1])


def test_ties_and_missing_boundaries_are_refused():
    mesh = on_square(3, 0).finest
    V = lagrange(mesh, 1)
    levels = spon.Hierarchy.algebraic(mesh, 0)
    tied = spon.discretise(levels, V, spon.periodic(mesh, V, {"left": "right"}))
    with pytest.raises(spon.SponError, match="ties or potentials"):
        Elsewhere(tied, mesh)
    held = spon.discretise(levels, V, spon.dirichlet(mesh, V, {"left": 0.0}))
    arrays = square(4)
    arrays.facet_names["inlet"] = arrays.facet_names.pop("left")
    with pytest.raises(spon.SponError, match="boundary 'left' not found"):
        Elsewhere(held, TaggedMesh(arrays, ALONE))


def test_nearest_points_of_segments_and_triangles(rng):
    def brute(facet, x, n=400):
        t = np.linspace(0, 1, n)
        if len(facet) == 2:
            points = facet[0] + t[:, None] * (facet[1] - facet[0])
        else:
            s, r = (g.ravel() for g in np.meshgrid(t, t))
            keep = s + r <= 1 + 1e-12
            points = facet[0] + s[keep, None] * (facet[1] - facet[0]) + r[keep, None] * (facet[2] - facet[0])
        return np.linalg.norm(points - x, axis=1).min()

    for corners, gdim in ((2, 2), (3, 3)):
        facets, points = rng.standard_normal((3, corners, gdim)), rng.standard_normal((12, gdim))
        found = np.linalg.norm(nearest_on(facets, points) - points, axis=1)
        expected = [min(brute(f, x) for f in facets) for x in points]
        np.testing.assert_allclose(found, expected, atol=2e-2)
        assert (found <= np.array(expected) + 1e-12).all()
    unit = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]], dtype=float)
    np.testing.assert_allclose(nearest_on(unit, np.array([[0.9, 0.8, 1.0]])), [[0.9, 0.8, 0.0]])
