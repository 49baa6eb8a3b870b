"""Random latent vectors satisfy the constraints, for cell types × elements."""

from dataclasses import replace

import basix.ufl
import numpy as np
import pytest
import scipy.sparse as sp
import ufl
from dolfinx import fem
from mpi4py import MPI
from test_canonical import CELLS, curved, shuffled

import spon
from meshes import box, mapped
from spon.fem.assembly import assembled
from spon.fem.canonical import CanonicalOrder
from spon.fem.divergence import potential
from spon.fem.mesh import TaggedMesh
from spon.fem.transfer import Location, evaluation

WORLD = MPI.COMM_WORLD
FREE = [
    ("triangle", "RT", 1),
    ("triangle", "RT", 3),
    ("triangle", "BDM", 2),
    ("quadrilateral", "RT", 2),
    ("tetrahedron", "RT", 1),
    ("tetrahedron", "BDM", 1),
    ("tetrahedron", "RT", 2),
    ("hexahedron", "RT", 1),
    ("hexahedron", "RT", 2),
]


def norm(form, comm):
    return np.sqrt(comm.allreduce(fem.assemble_scalar(fem.form(form * ufl.dx))))


@pytest.mark.mpi
@pytest.mark.parametrize(("cell", "family", "degree"), FREE)
@pytest.mark.parametrize("walls", [(), ("left", "top"), "all"])
def test_every_potential_gives_a_divergence_free_field(cell, family, degree, walls, rng):
    n = 4 if cell in ("triangle", "quadrilateral") else 2
    mesh = TaggedMesh(mapped(shuffled(box(cell, n)), curved), WORLD)
    walls = tuple(mesh.arrays.facet_names) if walls == "all" else walls
    space = fem.functionspace(mesh.dolfinx, (family, degree))
    order = CanonicalOrder(mesh, space)
    constraint = spon.divergence_free(mesh, space, impermeable=walls)
    u = fem.Function(space)
    for _ in range(3):
        order.scatter(constraint.expand(rng.standard_normal((1, constraint.Z.shape[1])))[0], u)
        size = norm(ufl.inner(ufl.grad(u), ufl.grad(u)) + ufl.inner(u, u), WORLD)
        assert norm(ufl.div(u) ** 2, WORLD) <= 1e-12 * size
        normal = ufl.dot(u, ufl.FacetNormal(mesh.dolfinx)) ** 2
        for name in walls:
            flux = WORLD.allreduce(fem.assemble_scalar(fem.form(normal * mesh.ds(name))))
            assert np.sqrt(flux) <= 1e-13 * size


@pytest.mark.parametrize(("cell", "family", "degree"), FREE)
@pytest.mark.parametrize("walls", [(), ("left", "top"), "all"])
def test_the_curl_reaches_every_divergence_free_field_once(cell, family, degree, walls):
    mesh = TaggedMesh(shuffled(box(cell, 2)), MPI.COMM_SELF)
    walls = tuple(mesh.arrays.facet_names) if walls == "all" else walls
    space = fem.functionspace(mesh.dolfinx, (family, degree))
    order = CanonicalOrder(mesh, space)
    simplex = cell in ("triangle", "tetrahedron")
    pressure = ("DG" if simplex else "DQ", degree - 1)
    q = ufl.TestFunction(fem.functionspace(mesh.dolfinx, pressure))
    B = assembled(q * ufl.div(ufl.TrialFunction(space)) * ufl.dx)
    B = _columns(B, order)
    Z = spon.divergence_free(mesh, space, impermeable=walls).Z.toarray()
    free = np.flatnonzero(~spon.slip(mesh, space, walls).fixed)
    kernel = len(free) - np.linalg.matrix_rank(B[:, free], tol=1e-10)
    assert Z.shape[1] == kernel
    assert np.linalg.matrix_rank(Z, tol=1e-10) == kernel


def _columns(B, order):
    indptr, indices, data = B.getValuesCSR()
    B = sp.csr_array((data, indices, indptr), shape=B.getSize()).toarray()
    out = np.empty_like(B)
    out[:, order.everywhere] = B
    return out if order._unturn is None else out @ order._unturn


@pytest.mark.parametrize("holes", [0, 1, 3])
def test_stream_functions_have_a_constant_for_each_hole(holes):
    arrays = box("triangle", 9)
    inside = [(2, 2), (6, 2), (4, 6)][:holes]
    corner = np.floor(arrays.points[arrays.cells].mean(axis=1) * 9)
    cut = np.zeros(len(arrays.cells), dtype=bool)
    for i, j in inside:
        cut |= (corner[:, 0] == i) & (corner[:, 1] == j)
    cells = arrays.cells[~cut]
    used, cells = np.unique(cells, return_inverse=True)
    cells = cells.reshape(-1, 3)
    edges = np.sort(cells[:, [[1, 2], [0, 2], [0, 1]]].reshape(-1, 2), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    walls = edges[count == 1]
    arrays = spon.MeshArrays(
        arrays.points[used],
        cells,
        "triangle",
        np.ones(len(cells), np.int32),
        walls,
        np.ones(len(walls), np.int32),
        {"d": 1},
        {"walls": 1},
        "holes",
    )
    mesh = TaggedMesh(arrays, MPI.COMM_SELF)
    space = fem.functionspace(mesh.dolfinx, ("RT", 1))
    constraint = spon.divergence_free(mesh, space, ["walls"])
    inner = np.setdiff1d(np.arange(len(arrays.points)), np.unique(walls))
    assert constraint.Z.shape[1] == len(inner) + holes


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("cell", "family", "degree"),
    [("triangle", "P", 1), ("triangle", "P", 3), ("triangle", "RT", 2), ("quadrilateral", "P", 2),
     ("tetrahedron", "P", 3), ("tetrahedron", "N1curl", 2), ("tetrahedron", "RT", 2), ("hexahedron", "P", 2),
     ("hexahedron", "N1curl", 1), ("quadrilateral", "RT", 2)],
)  # fmt: skip
def test_random_periodic_functions_do_not_jump(cell, family, degree, rng):
    arrays = shuffled(box(cell, 3))
    arrays = mapped(
        arrays, lambda x: [x[i] + 0.05 * np.sin(2 * np.pi * x[(i + 1) % len(x)]) for i in range(len(x))]
    )
    mesh = TaggedMesh(arrays, WORLD)
    pairs = [("left", "right"), ("bottom", "top"), ("front", "back")][: arrays.tdim]
    space = fem.functionspace(mesh.dolfinx, (family, degree))
    constraint = spon.periodic(mesh, space, pairs)
    order = CanonicalOrder(mesh, space)
    values = constraint.expand(rng.standard_normal((1, constraint.Z.shape[1])))[0]
    assert constraint.violation(values[None])[0] <= 1e-14 * np.abs(values).max()
    topology, geometry = mesh.topology, mesh.geometry
    _, cell_facets = topology.entities(arrays.tdim - 1)
    shape = basix.topology(topology.reference)[arrays.tdim - 1]
    corners = basix.geometry(topology.reference)
    for axis, (a, b) in enumerate(pairs):
        seen = []
        for name in (a, b):
            cells, local = np.nonzero(np.isin(cell_facets, topology.facets(name)))
            middle = np.array([corners[v].mean(axis=0) for v in shape])[local]
            where = Location(cells, middle)
            x = geometry.points(cells, middle)
            along = np.lexsort(np.round(np.delete(x, axis, axis=1).T, 9))
            value = (evaluation(order.canonical, where) @ values).reshape(len(x), -1)[along]
            if family == "RT":  # the tangential component jumps, even inside
                value = np.einsum("nd,nd->n", value, _normals(mesh, cells, local)[along])
                value = value if name == a else -value
            if family == "N1curl":
                n = _normals(mesh, cells, local)[along]
                value = value - np.einsum("nd,nd->n", value, n)[:, None] * n
            seen.append(value)
        np.testing.assert_allclose(seen[0], seen[1], atol=1e-12)


def _normals(mesh, cells, local):
    reference = basix.cell.facet_outward_normals(mesh.topology.reference)[local]
    middle = np.array(
        [
            basix.geometry(mesh.topology.reference)[v].mean(axis=0)
            for v in basix.topology(mesh.topology.reference)[mesh.arrays.tdim - 1]
        ]
    )[local]
    J = mesh.geometry.jacobians(cells, middle)
    n = np.einsum("nji,nj->ni", np.linalg.inv(J), reference)
    return n / np.linalg.norm(n, axis=1)[:, None]


def test_periodic_corners_are_one_dof():
    mesh = TaggedMesh(box("hexahedron", 3), MPI.COMM_SELF)
    space = spon.lagrange(mesh)
    constraint = spon.periodic(mesh, space, [("left", "right"), ("bottom", "top"), ("front", "back")])
    assert constraint.Z.shape == (64, 27)
    assert sorted(np.bincount(constraint.Z.indices).tolist()) == [1] * 8 + [2] * 12 + [4] * 6 + [8]


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_components_are_prescribed_one_by_one(cell, rng):
    mesh = TaggedMesh(shuffled(box(cell, 2)), WORLD)
    d = mesh.arrays.gdim
    space = fem.functionspace(mesh.dolfinx, ("Lagrange", 2, (d,)))
    values = {"left": (0.0, *[None] * (d - 1)), "right": (None, lambda x: x[0] * x[1], *[None] * (d - 2))}
    constraint = spon.dirichlet(mesh, space, values)
    nodes = CanonicalOrder(mesh, space).canonical.nodes
    u = constraint.expand(rng.standard_normal((1, constraint.Z.shape[1]))).reshape(-1, d)
    left, right = np.isclose(nodes[:, 0], 0.0), np.isclose(nodes[:, 0], 1.0)
    np.testing.assert_array_equal(u[left, 0], 0.0)
    np.testing.assert_allclose(u[right, 1], nodes[right, 1], atol=1e-15)
    assert constraint.fixed.sum() == left.sum() + right.sum()


def test_periodic_and_prescribed_values_compose(rng):
    mesh = TaggedMesh(box("triangle", 4), MPI.COMM_SELF)
    space = fem.functionspace(mesh.dolfinx, ("Lagrange", 2))
    sides = spon.periodic(mesh, space, {"left": "right"})
    ends = spon.dirichlet(mesh, space, {"bottom": 1.0, "top": lambda x: np.cos(2 * np.pi * x[0])})
    for both in (sides.intersect(ends), ends.intersect(sides)):
        u = both.expand(rng.standard_normal((3, both.Z.shape[1])))
        assert max(sides.violation(u).max(), ends.violation(u).max()) <= 1e-14
        np.testing.assert_allclose(both.expand(both.free(u)), u, atol=1e-13)
    with pytest.raises(spon.SponError, match="contradict each other"):
        sides.intersect(spon.dirichlet(mesh, space, {"bottom": lambda x: x[0]}))


@pytest.mark.mpi
def test_faces_that_do_not_match_are_refused_with_place_and_distance():
    arrays = box("triangle", 4)
    points = arrays.points.copy()
    points[(points[:, 0] == 1.0) & (points[:, 1] == 0.5), 1] += 0.01
    mesh = TaggedMesh(mapped(arrays, lambda x: points.T), WORLD)
    space = spon.lagrange(mesh)
    message = r"'left' and 'right' of box do not match .* 1 points without an image, .* \(0.0, 0.5\), by 0.01"
    with pytest.raises(spon.SponError, match=message):
        spon.periodic(mesh, space, {"left": "right"})
    with pytest.raises(spon.SponError, match="boundary 'inlet' not found"):
        spon.periodic(mesh, space, {"left": "inlet"})
    small = TaggedMesh(box("triangle", 1), WORLD)
    with pytest.raises(spon.SponError, match="reaches from a periodic boundary to its image"):
        spon.periodic(small, spon.lagrange(small), {"left": "right"})


def test_unsuitable_spaces_are_refused():
    mesh = TaggedMesh(box("triangle", 2), MPI.COMM_SELF)
    broken = fem.functionspace(mesh.dolfinx, ("DG", 1))
    with pytest.raises(spon.SponError, match="DP1 triangle has no DoFs on boundary 'left'"):
        spon.dirichlet(mesh, broken, {"left": 0.0})
    with pytest.raises(spon.SponError, match="DP1 triangle has no DoFs on boundary 'left'"):
        spon.Trace(mesh, broken, "left")
    with pytest.raises(spon.SponError, match="DP1 triangle has no DoFs on the periodic boundaries"):
        spon.periodic(mesh, broken, {"left": "right"})
    with pytest.raises(spon.SponError, match="slip needs an H"):
        spon.slip(mesh, spon.lagrange(mesh), ["left"])
    with pytest.raises(spon.SponError, match="need RT, or BDM on simplices; found P1 triangle"):
        spon.divergence_free(mesh, spon.lagrange(mesh))


def walled(n, lines):
    """A unit square with named interior walls: steps (i, j) → (i', j') of a grid of n."""
    arrays = box("triangle", n)
    number = {tuple(p): i for i, p in enumerate(np.rint(arrays.points * n).astype(int).tolist())}
    walls = np.array([[number[a], number[b]] for a, b in lines]).reshape(-1, 2)
    tag = max(arrays.facet_names.values()) + 1
    return replace(
        arrays,
        facets=np.concatenate([arrays.facets, walls]),
        facet_tags=np.concatenate([arrays.facet_tags, np.full(len(walls), tag, np.int32)]),
        facet_names={**arrays.facet_names, "walls": tag},
    )


ACROSS = [((i, 2), (i + 1, 2)) for i in range(4)]
DIAGONAL = [((i, i), (i + 1, i + 1)) for i in range(4)]
X, Y, Z = ("left", "right"), ("bottom", "top"), ("front", "back")


@pytest.mark.parametrize(("family", "degree"), [("RT", 1), ("RT", 2), ("BDM", 1)])
@pytest.mark.parametrize(
    ("pairs", "lines", "impermeable", "flows"),
    [
        ([X, Y], [], [], 2),
        ([X], [], [], 1),
        ([X], [], ["bottom", "top"], 0),  # a channel: the flux is the constant on its second wall
        ([X], [], ["bottom"], 0),
        ([X, Y], ACROSS, ["walls"], 1),
        ([X, Y], ACROSS[:1] + ACROSS[-1:], ["walls"], 2),  # it crosses the periodic boundary
        ([X, Y], DIAGONAL, ["walls"], 1),
        ([X, Y], [], ["left"], 1),
    ],
)
def test_the_curl_reaches_every_periodic_divergence_free_field_once(
    family, degree, pairs, lines, impermeable, flows
):
    arrays = walled(4, lines) if lines else box("triangle", 4)
    check_periodic_fields(shuffled(arrays), family, degree, pairs, impermeable, flows)


@pytest.mark.parametrize(
    ("cell", "family", "degree"),
    [("tetrahedron", "RT", 1), ("tetrahedron", "BDM", 1), ("tetrahedron", "RT", 2), ("hexahedron", "RT", 1),
     ("hexahedron", "RT", 2)],
)  # fmt: skip
@pytest.mark.parametrize(("pairs", "flows"), [([X], 0), ([X, Y], 1), ([Z, X, Y], 3)])
def test_vector_potentials_reach_every_periodic_divergence_free_field_once(
    cell, family, degree, pairs, flows
):
    check_periodic_fields(shuffled(box(cell, 2)), family, degree, pairs, [], flows)


def check_periodic_fields(arrays, family, degree, pairs, impermeable, flows):
    mesh = TaggedMesh(arrays, MPI.COMM_SELF)
    space = fem.functionspace(mesh.dolfinx, (family, degree))
    order = CanonicalOrder(mesh, space)
    simplex = arrays.cell_type in ("triangle", "tetrahedron")
    q = ufl.TestFunction(fem.functionspace(mesh.dolfinx, ("DG" if simplex else "DQ", degree - 1)))
    B = _columns(assembled(q * ufl.div(ufl.TrialFunction(space)) * ufl.dx), order)
    constraint = spon.divergence_free(mesh, space, impermeable, periodic=pairs)
    Z = constraint.Z.toarray()
    assert (
        constraint.latent.selection.shape[0] - flows
        == mesh.numbering(potential(space.element.basix_element)).size
    )
    tied, slip = spon.periodic(mesh, space, pairs), spon.slip(mesh, space, impermeable)
    both = (tied.intersect(slip) if impermeable else tied).Z.toarray()
    kernel = both.shape[1] - np.linalg.matrix_rank(B @ both, tol=1e-10)
    assert Z.shape[1] == kernel
    assert np.linalg.matrix_rank(Z, tol=1e-10) == kernel
    np.testing.assert_allclose(B @ Z, 0.0, atol=1e-13)
    for other in (tied, slip):
        assert other.violation(Z.T).max() <= 1e-12
    again = constraint.from_latent @ constraint.latent.selection
    np.testing.assert_allclose(again.toarray(), constraint.Z.toarray(), atol=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("cell", "pairs", "flows"),
    [
        ("triangle", [X, Y], [(0, -1), (1, 0)]),
        ("tetrahedron", [X, Y, Z], [(0, 0, 1), (0, -1, 0), (1, 0, 0)]),
    ],
)
def test_the_mean_flow_of_a_periodic_box_is_constant(cell, pairs, flows):
    mesh = TaggedMesh(shuffled(box(cell, 3)), WORLD)
    space = fem.functionspace(mesh.dolfinx, ("BDM", 1))
    order = CanonicalOrder(mesh, space)
    columns = spon.divergence_free(mesh, space, periodic=pairs).Z[:, -len(flows) :].toarray()
    u = fem.Function(space)
    for column, flow in zip(columns.T, flows, strict=True):
        order.scatter(column, u)
        gap = u - ufl.as_vector([float(f) for f in flow])
        assert norm(ufl.inner(gap, gap), WORLD) <= 1e-13


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("cell", "family", "degree", "geometry"),
    [("triangle", "RT", 2, 2), ("quadrilateral", "RT", 1, 1), ("tetrahedron", "BDM", 1, 1),
     ("hexahedron", "RT", 1, 1)],
)  # fmt: skip
def test_random_periodic_fields_are_divergence_free(cell, family, degree, geometry, rng):
    arrays = mapped(
        shuffled(box(cell, 3, geometry)),
        lambda x: [x[i] + 0.05 * np.sin(2 * np.pi * x[(i + 1) % len(x)]) for i in range(len(x))],
    )
    mesh = TaggedMesh(arrays, WORLD)
    pairs = [X, Y, Z][: arrays.tdim]
    space = fem.functionspace(mesh.dolfinx, (family, degree))
    constraint = spon.divergence_free(mesh, space, periodic=pairs)
    values = constraint.expand(rng.standard_normal((1, constraint.Z.shape[1])))
    assert spon.periodic(mesh, space, pairs).violation(values)[0] <= 1e-12 * np.abs(values).max()
    u = fem.Function(space)
    CanonicalOrder(mesh, space).scatter(values[0], u)
    size = norm(ufl.inner(ufl.grad(u), ufl.grad(u)) + ufl.inner(u, u), WORLD)
    assert norm(ufl.div(u) ** 2, WORLD) <= 1e-12 * size


@pytest.mark.mpi
def test_unsuitable_periodic_boundaries_of_divergence_free_fields_are_refused():
    solid = TaggedMesh(box("tetrahedron", 2), WORLD)
    space = fem.functionspace(solid.dolfinx, ("RT", 1))
    with pytest.raises(spon.SponError, match="allowed in space: one of the two"):
        spon.divergence_free(solid, space, ["top"], periodic=[X])
    mesh = TaggedMesh(box("triangle", 4), WORLD)
    space = fem.functionspace(mesh.dolfinx, ("RT", 1))
    with pytest.raises(spon.SponError, match="depend on each other"):
        spon.divergence_free(mesh, space, periodic=[X, ("right", "left")])
