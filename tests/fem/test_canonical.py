"""Canonical numbering and transfer, for cell types × elements, on any number of ranks."""

from dataclasses import replace
from itertools import permutations

import basix.ufl
import numpy as np
import pytest
import ufl
from dolfinx import fem
from mpi4py import MPI

import spon
from meshes import box, mapped
from spon.fem import reference
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh
from spon.fem.numbering import orientations
from spon.fem.transfer import Location, evaluation, interpolation

WORLD = MPI.COMM_WORLD
TENSOR = ("quadrilateral", "hexahedron")
CELLS = ("triangle", "quadrilateral", "tetrahedron", "hexahedron")
FAST = [
    ("triangle", "P", 1),
    ("triangle", "P", 3),
    ("triangle", "RT", 2),
    ("triangle", "BDM", 1),
    ("quadrilateral", "P", 2),
    ("quadrilateral", "RT", 1),
    ("tetrahedron", "P", 3),
    ("tetrahedron", "N1curl", 2),
    ("tetrahedron", "RT", 2),
    ("hexahedron", "P", 2),
    ("hexahedron", "N1curl", 1),
    ("triangle", "DG", 1),
]
FULL = [
    (c, f, k)
    for c in CELLS for f in ("P", "DG", "RT", "N1curl", "BDM", "N2curl") for k in (1, 2, 3)
    if not (c in TENSOR and (f in ("BDM", "N2curl") or k == 3))
    if not (c == "tetrahedron" and k == 3 and f != "P")
]  # fmt: skip


def shuffled(arrays, seed=3):
    """The mesh with points renumbered and cells turned, so that orientations are mixed."""
    rng = np.random.default_rng(seed)
    p = rng.permutation(len(arrays.points))
    points = np.empty_like(arrays.points)
    points[p] = arrays.points
    cells = p[arrays.cells]
    nodes = reference.nodes(arrays.cell_type, arrays.degree)
    turns = [nodes]
    if arrays.cell_type in TENSOR:
        axes = range(arrays.tdim)
        turns = [nodes[:, q] for q in permutations(axes)]
        for d in axes:
            turns += [np.where(np.arange(len(axes)) == d, 1 - t, t) for t in turns]
    match = [np.abs(t[:, None] - nodes[None]).sum(axis=2).argmin(axis=1) for t in turns]
    which = rng.integers(len(match), size=len(cells))
    cells = np.take_along_axis(cells, np.array(match)[which], axis=1)
    return replace(arrays, points=points, cells=cells, facets=p[arrays.facets])


def curved(x):
    return [x[0] + 0.08 * np.sin(2 * x[1]), *(x[i] + 0.05 * x[0] * x[i] for i in range(1, len(x)))]


def some_mesh(cell, n=2, degree=1, comm=WORLD):
    return TaggedMesh(mapped(shuffled(box(cell, n, degree)), curved), comm)


def polynomial(gdim, degree, components, seed=0):
    """A random polynomial as a function of (gdim, points)."""
    rng = np.random.default_rng(seed)
    powers = [p for p in np.ndindex(*[degree + 1] * gdim) if sum(p) <= degree]
    c = rng.standard_normal((components, len(powers)))

    def value(x):
        return c @ np.stack([np.prod([x[d] ** p for d, p in enumerate(q)], axis=0) for q in powers])

    return value


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = FULL if metafunc.config.getoption("--full") else FAST
        metafunc.parametrize("case", cases, ids=["-".join(map(str, c)) for c in cases])


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_orientations_are_those_of_dolfinx(cell):
    mesh = some_mesh(cell)
    live, tdim = mesh.dolfinx.topology, mesh.arrays.tdim
    live.create_entity_permutations()
    info = live.get_cell_permutation_info()
    index_map = live.index_map(0)
    number = index_map.local_to_global(np.arange(index_map.size_local + index_map.num_ghosts, dtype=np.int32))
    # global vertex numbers of DOLFINx at the vertices of the input
    keys = np.full(len(mesh.arrays.points), -1)
    live.create_connectivity(tdim, 0)
    local = live.connectivity(tdim, 0).array.reshape(-1, mesh.topology.cell_vertices.shape[1])
    cells = live.original_cell_index
    keys[mesh.topology.cell_vertices[cells]] = number[local]
    faces = len(mesh.topology.local[2]) if tdim == 3 else 0
    edges = orientations(mesh.topology, 1, keys, cells)
    packed = sum(edges[:, e].astype(np.uint32) << (3 * faces + e) for e in range(edges.shape[1]))
    if tdim == 3:
        states = orientations(mesh.topology, 2, keys, cells)
        packed += sum(states[:, f].astype(np.uint32) << (3 * f) for f in range(faces))
    np.testing.assert_array_equal(packed, info[: len(cells)])


@pytest.mark.mpi
def test_live_and_canonical_agree_on_every_element(case):
    """The same function, evaluated by DOLFINx and from its canonical coefficients."""
    cell, family, degree = case
    mesh = some_mesh(cell, degree=1 if degree < 3 else 2)
    space = fem.functionspace(mesh.dolfinx, (family, degree))
    order = CanonicalOrder(mesh, space)
    rng = np.random.default_rng(1)
    values = rng.standard_normal(order.size)
    function = fem.Function(space)
    order.scatter(values, function)
    np.testing.assert_allclose(order.gather(function.x.array), values, atol=1e-12)
    topology = mesh.dolfinx.topology
    mine = topology.index_map(mesh.arrays.tdim).size_local
    X = np.tile(mesh.geometry.element.points.mean(axis=0) + 0.03, (mine, 1))
    where = Location(topology.original_cell_index[:mine], X)
    x = np.pad(mesh.geometry.points(*vars(where).values()), ((0, 0), (0, 3 - mesh.arrays.gdim)))
    expected = function.eval(x, np.arange(mine, dtype=np.int32)).reshape(mine, -1)
    found = (evaluation(order.canonical, where) @ values).reshape(mine, -1)
    np.testing.assert_allclose(found, expected, atol=1e-11)


@pytest.mark.mpi
def test_gathered_forms_are_those_of_one_rank(case):
    cell, family, degree = case
    forms = []
    for comm in (WORLD, MPI.COMM_SELF):
        mesh = some_mesh(cell, comm=comm)
        space = fem.functionspace(mesh.dolfinx, (family, degree))
        order = CanonicalOrder(mesh, space)
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        x = ufl.SpatialCoordinate(mesh.dolfinx)
        load = ufl.inner(x[0] + x[1] ** 2, v) if order.canonical.value_size == 1 else ufl.inner(x, v)
        mass = order.matrix(assembled(ufl.inner(u, v) * ufl.dx))
        forms.append((mass, order.gather_dual(assembled_vector(load * ufl.dx).array_r)))
    (mass, load), (mass_1, load_1) = forms
    np.testing.assert_array_equal(mass.indices, mass_1.indices)
    np.testing.assert_array_equal(mass.indptr, mass_1.indptr)
    assert abs(mass.data - mass_1.data).max() <= 1e-13 * abs(mass_1.data).max()
    np.testing.assert_allclose(load, load_1, atol=1e-13 * abs(load_1).max())
    assert abs(mass - mass.T).max() <= 1e-14 * abs(mass.data).max()


@pytest.mark.mpi
def test_interpolation_is_that_of_dolfinx_and_reproduces_polynomials(case):
    cell, family, degree = case
    # H(div) and H(curl) on hexahedra hold constants on affine cells alone
    mesh = TaggedMesh(shuffled(box(cell, 2)), WORLD) if cell == "hexahedron" else some_mesh(cell)
    gdim = mesh.arrays.gdim
    space = fem.functionspace(mesh.dolfinx, (family, degree))
    order = CanonicalOrder(mesh, space)
    components = order.canonical.value_size
    exact = degree - 1 if family in ("RT", "N1curl") else degree
    if components > 1 and cell in TENSOR:
        exact = 0  # the cells are not affine
    p = polynomial(gdim, exact, components)
    function = fem.Function(space)
    function.interpolate(lambda x: p(x) if components > 1 else p(x)[0])
    nodal = CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, ("Lagrange", 2, (components,)))).canonical
    if exact <= 2:
        into = interpolation(order.canonical, nodal)
        nodes = nodal.nodes.T
        np.testing.assert_allclose(into @ p(nodes).T.ravel(), order.gather(function.x.array), atol=1e-12)
    where = Location(*mesh.geometry.everywhere(np.array([[0.21, 0.34, 0.17][: mesh.arrays.tdim]])))
    found = evaluation(order.canonical, where) @ order.gather(function.x.array)
    np.testing.assert_allclose(
        found.reshape(-1, components).T, p(mesh.geometry.points(where.cells, where.X).T), atol=1e-12
    )


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_mixed_and_vector_spaces(cell, rng):
    mesh = some_mesh(cell)
    vector = basix.ufl.element("P", cell, 2, shape=(mesh.arrays.gdim,))
    mixed = basix.ufl.mixed_element(
        [vector, basix.ufl.element("P", cell, 1), basix.ufl.element("RT", cell, 1)]
    )
    order = CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, mixed))
    assert sorted(order.everywhere.tolist()) == list(range(order.size))
    values = np.random.default_rng(5).standard_normal(order.size)
    function = fem.Function(order.space)
    order.scatter(values, function)
    np.testing.assert_allclose(order.gather(function.x.array), values, atol=1e-14)
    for number in range(3):
        collapsed = function.sub(number).collapse()
        part, inner = order.canonical.parts[number], CanonicalOrder(mesh, collapsed.function_space)
        expected = values[part.offset : part.offset + part.size]
        np.testing.assert_allclose(inner.gather(collapsed.x.array), expected, atol=1e-14)


def test_elements_without_canonical_order_are_refused():
    mesh = some_mesh("triangle")
    quadrature = basix.ufl.quadrature_element("triangle", degree=2)
    with pytest.raises(spon.SponError, match="not supported; allowed: those of basix"):
        CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, quadrature))
