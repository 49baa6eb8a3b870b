"""Encode and decode: any element to nodal features and back, whatever its orientation."""

import basix.ufl
import numpy as np
import pytest
import ufl
from dolfinx import fem
from mpi4py import MPI
from test_canonical import FAST, FULL, polynomial, shuffled, some_mesh

import spon
from meshes import box, mapped
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = FULL if metafunc.config.getoption("--full") else FAST
        metafunc.parametrize("case", cases, ids=["-".join(map(str, c)) for c in cases])


def frozen(mesh, element, constraint=None, **more):
    space = fem.functionspace(mesh.dolfinx, element)
    made = None if constraint is None else constraint(mesh, space)
    return spon.discretise(spon.Hierarchy.uniform(mesh, 0), space, made, **more), space


@pytest.mark.mpi
def test_encode_and_decode_reproduce_polynomials(case):
    cell, family, degree = case
    mesh = TaggedMesh(shuffled(box(cell, 2)), WORLD)  # H(div) holds polynomials on affine cells alone
    d, space = frozen(mesh, (family, degree))
    exact = degree - 1 if family in ("RT", "N1curl") else degree
    p = polynomial(mesh.arrays.gdim, exact, d.output.components)
    nodal = p(d.levels[0].points.T).T.ravel()
    dofs = d.output.interpolation @ nodal
    np.testing.assert_allclose(d.output.features @ dofs, nodal, atol=1e-12)
    np.testing.assert_allclose(d.decoder @ nodal, dofs, atol=1e-12)
    live = spon.Dofs(mesh, space)(lambda x: p(x[: mesh.arrays.gdim]))
    np.testing.assert_allclose(live, dofs, atol=1e-12)


@pytest.mark.mpi
def test_features_do_not_see_the_orientation(case):
    """The same function on the same mesh, numbered and turned differently: the same features."""
    cell, family, degree = case
    seen = []
    for seed in (3, 4):
        mesh = TaggedMesh(
            shuffled(mapped(box(cell, 2), lambda x: [x[0] + 0.1 * x[1] * x[1], *x[1:]]), seed), WORLD
        )
        d, space = frozen(mesh, (family, degree))
        c = d.output.components

        def smooth(x, c=c):
            return np.stack([np.sin(x[0] + k) * np.cos(2 * x[1] - k) for k in range(c)])

        values = spon.Dofs(mesh, space)(smooth)
        at_nodes = (d.output.features @ values).reshape(-1, c)
        back = (d.output.features @ (d.output.interpolation @ at_nodes.ravel())).reshape(-1, c)
        order = np.lexsort(np.round(d.levels[0].points, 9).T)
        seen.append((d.levels[0].points[order], at_nodes[order], back[order]))
    for one, other in zip(*seen, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)


@pytest.mark.parametrize("cell", ["triangle", "tetrahedron"])
def test_values_of_cells_become_means_weighted_with_the_mass(cell, rng):
    """So that the integral of a material property is kept, on cells of any size."""
    uneven = mapped(shuffled(box(cell, 3)), lambda x: [x[0] ** 2, *x[1:]])
    mesh = TaggedMesh(uneven, MPI.COMM_SELF)
    d, _ = frozen(mesh, ("DG", 0, (2,)))
    values = rng.standard_normal(d.dofs)
    at_nodes = (d.output.features @ values).reshape(-1, 2)
    exact = (d.output.mass @ values).reshape(-1, 2).sum(axis=0)
    np.testing.assert_allclose(d.levels[0].lumped_mass @ at_nodes, exact, atol=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("cell", "family", "degree"),
    [("triangle", "RT", 2), ("triangle", "BDM", 1), ("quadrilateral", "RT", 2), ("tetrahedron", "RT", 2)],
)
def test_the_decoder_takes_the_curl_of_nodal_potentials(cell, family, degree):
    """Constants and gradients, which a gauge leaves out, do no harm."""
    mesh = TaggedMesh(shuffled(box(cell, 2)), WORLD)
    d, space = frozen(mesh, (family, degree), lambda m, V: spon.divergence_free(m, V))
    x = d.levels[0].points.T
    if len(x) == 2:
        nodal, exact = 5 + x[0] * x[1] - x[0], lambda x: np.stack([x[0], 1 - x[1]])
    else:
        nodal = np.stack([5 + x[1] * x[2], x[0] * x[2] - x[2], x[0] * x[1]], axis=1).ravel()
        exact = lambda x: np.stack([1 + 0 * x[0], 0 * x[0], 0 * x[0]])  # noqa: E731
    np.testing.assert_allclose(d.decoder @ nodal, spon.Dofs(mesh, space)(exact), atol=1e-12)


@pytest.mark.mpi
def test_gram_matrices_are_those_of_the_element(case):
    cell, family, degree = case
    mesh = some_mesh(cell)
    d, space = frozen(mesh, (family, degree))
    order = CanonicalOrder(mesh, space)
    u = fem.Function(space)
    values = np.random.default_rng(2).standard_normal(d.dofs)
    order.scatter(values, u)
    squares = [ufl.inner(u, u)]
    if family in ("RT", "BDM"):
        squares.append(ufl.div(u) ** 2)
    elif family in ("N1curl", "N2curl"):
        squares.append(ufl.inner(ufl.curl(u), ufl.curl(u)))
    else:
        squares.append(ufl.inner(ufl.grad(u), ufl.grad(u)))
    for gram, square in zip((d.output.mass, d.output.stiffness), squares, strict=True):
        expected = WORLD.allreduce(fem.assemble_scalar(fem.form(square * ufl.dx)))
        assert values @ (gram @ values) == pytest.approx(expected, rel=1e-10)


def taylor_hood(cell, gdim):
    return basix.ufl.mixed_element(
        [basix.ufl.element("P", cell, 2, shape=(gdim,)), basix.ufl.element("P", cell, 1)]
    )


CONSTRAINED = {
    "vector P2, a component each": (
        "triangle",
        ("Lagrange", 2, (2,)),
        lambda m, V: spon.dirichlet(m, V, {"left": (1.0, None), "bottom": (None, lambda x: x[0])}),
    ),
    "P3 periodic": (
        "triangle",
        ("Lagrange", 3),
        lambda m, V: spon.periodic(m, V, {"left": "right", "bottom": "top"}),
    ),
    "P1 periodic and prescribed": (
        "tetrahedron",
        ("Lagrange", 1),
        lambda m, V: spon.periodic(m, V, {"left": "right"}).intersect(spon.dirichlet(m, V, {"top": 2.0})),
    ),
    "Taylor-Hood": (
        "triangle",
        taylor_hood("triangle", 2),
        lambda m, V: spon.dirichlet(
            m, V, {"left": (lambda x: 4 * x[1] * (1 - x[1]), 0.0), "top": (0.0, 0.0)}
        ),
    ),
    "RT slip": ("hexahedron", ("RT", 1), lambda m, V: spon.slip(m, V, ["left", "top"])),
    "RT divergence-free": ("triangle", ("RT", 2), lambda m, V: spon.divergence_free(m, V, ["left", "top"])),
    "BDM divergence-free": ("triangle", ("BDM", 1), lambda m, V: spon.divergence_free(m, V)),
    "RT divergence-free 3-D": (
        "tetrahedron",
        ("RT", 1),
        lambda m, V: spon.divergence_free(m, V, ["left", "right"]),
    ),
    "RT divergence-free hexahedra": ("hexahedron", ("RT", 2), lambda m, V: spon.divergence_free(m, V)),
    "BDM divergence-free, periodic": (
        "triangle",
        ("BDM", 1),
        lambda m, V: spon.divergence_free(m, V, periodic={"left": "right", "bottom": "top"}),
    ),
    "RT divergence-free 3-D, periodic": (
        "hexahedron",
        ("RT", 1),
        lambda m, V: spon.divergence_free(m, V, periodic={"left": "right", "bottom": "top"}),
    ),
    "N1curl periodic": ("tetrahedron", ("N1curl", 2), lambda m, V: spon.periodic(m, V, {"left": "right"})),
    "N1curl tangential": ("tetrahedron", ("N1curl", 1), lambda m, V: spon.dirichlet(m, V, {"left": 0.0})),
}


@pytest.mark.mpi
@pytest.mark.parametrize("name", CONSTRAINED)
def test_whatever_the_latent_values_the_output_is_admissible(name):
    cell, element, constraint = CONSTRAINED[name]
    mesh = TaggedMesh(shuffled(box(cell, 4 if cell == "triangle" else 3)), WORLD)
    d, space = frozen(mesh, element, constraint)
    rng = np.random.default_rng(3)
    nodes, latent = d.cutoff.shape
    y = 1e3 * rng.standard_normal((5, nodes, latent))
    u = (d.decoder @ (d.cutoff * y).reshape(5, -1).T).T + d.constraint.shift
    size = np.abs(u).max()
    assert size > 1.0
    assert d.constraint.violation(u).max() <= 1e-12 * size
    fixed = d.constraint.fixed
    np.testing.assert_array_equal(u[:, fixed], np.tile(d.constraint.shift[fixed], (5, 1)))
    if "divergence-free" in name:
        f = fem.Function(space)
        CanonicalOrder(mesh, space).scatter(u[0], f)
        square = [ufl.div(f) ** 2, ufl.inner(ufl.grad(f), ufl.grad(f)) + ufl.inner(f, f)]
        div, grad = (np.sqrt(WORLD.allreduce(fem.assemble_scalar(fem.form(s * ufl.dx)))) for s in square)
        assert div <= 1e-12 * grad


@pytest.mark.parametrize(
    "name",
    ["vector P2, a component each", "P3 periodic", "RT divergence-free", "BDM divergence-free, periodic"],
)
def test_the_decoder_reaches_every_admissible_function(name):
    cell, element, constraint = CONSTRAINED[name]
    mesh = TaggedMesh(shuffled(box(cell, 3)), MPI.COMM_SELF)
    d, _ = frozen(mesh, element, constraint)
    D = (d.decoder * d.cutoff.ravel()).toarray()
    assert np.linalg.matrix_rank(D, tol=1e-10) == d.constraint.Z.shape[1]


@pytest.mark.mpi
@pytest.mark.parametrize("name", CONSTRAINED)
def test_arrays_do_not_depend_on_the_number_of_ranks(name):
    cell, element, constraint = CONSTRAINED[name]
    made = []
    for comm in (WORLD, MPI.COMM_SELF):
        mesh = TaggedMesh(shuffled(box(cell, 2)), comm)
        hierarchy = spon.Hierarchy.uniform(mesh, 1).coarsened(1 if cell == "triangle" else 0)
        space = fem.functionspace(hierarchy.finest.dolfinx, element)
        scalar = fem.functionspace(hierarchy.finest.dolfinx, ("Lagrange", 1))
        inputs = {
            "cells": fem.functionspace(hierarchy.finest.dolfinx, ("DG", 0)),
            "moments": spon.Moments(hierarchy.finest, scalar),
            "trace": spon.Trace(hierarchy.finest, scalar, "left"),
            "sensors": spon.Sensors(hierarchy.finest, [[0.3] * mesh.arrays.gdim, [0.8] * mesh.arrays.gdim]),
            "load": spon.Parameters(hierarchy.finest, ["q"]),
        }
        made.append(spon.discretise(hierarchy, space, constraint(hierarchy.finest, space), inputs))
    assert made[0].fingerprint == made[1].fingerprint
    assert same(*made) > 40


def same(a, b, path="discretisation"):
    """Compare two frozen objects; return how many arrays were compared."""
    count = 0
    for name in a.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if name == "finer" or x is None:
            assert (x is None) == (y is None)
            continue
        items = [(x, y)]
        if isinstance(x, dict):
            assert list(x) == list(y)
            items = list(zip(x.values(), y.values(), strict=True))
        elif isinstance(x, tuple) and x and not isinstance(x[0], (int, tuple)):
            items = list(zip(x, y, strict=True))
        for left, right in items:
            count += same_item(left, right, f"{path}.{name}")
    return count


def same_item(x, y, path):
    if hasattr(x, "__dataclass_fields__"):
        return same(x, y, path)
    if hasattr(x, "indptr"):
        np.testing.assert_array_equal(x.indptr, y.indptr, err_msg=path)
        np.testing.assert_array_equal(x.indices, y.indices, err_msg=path)
        x, y = x.data, y.data
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        assert np.abs(x - y).max(initial=0.0) <= 1e-13 * np.abs(y).max(initial=0.0), path
    else:
        np.testing.assert_array_equal(x, y, err_msg=path)
    return 1


@pytest.mark.parametrize("name", CONSTRAINED)
def test_saved_and_loaded_are_the_same_to_the_bit(name, tmp_path):
    cell, element, constraint = CONSTRAINED[name]
    mesh = TaggedMesh(shuffled(box(cell, 3)), MPI.COMM_SELF)
    d, _ = frozen(mesh, element, constraint)
    d.save(tmp_path / "d.h5")
    loaded = spon.Discretisation.load(tmp_path / "d.h5")
    assert same(d, loaded) > 20
    np.testing.assert_array_equal(d.decoder.data, loaded.decoder.data)
