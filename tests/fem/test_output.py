"""What is written is read back by other software, for cell types × elements, on any number of ranks."""

from xml.etree import ElementTree

import adios2
import basix.ufl
import matplotlib.image
import meshio
import numpy as np
import pytest
from conftest import square
from dolfinx import fem
from mpi4py import MPI
from scipy.spatial import cKDTree
from test_canonical import CELLS, polynomial, shuffled, some_mesh

import spon
from meshes import box
from spon.fem import reference
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh
from spon.fem.output import surface
from spon.fem.spaces import CanonicalSpace
from spon.fem.transfer import Location, evaluation, interpolate

WORLD = MPI.COMM_WORLD

# VTK's second-order cells (VTK file formats, "cell types"): the corners that each node is the middle of
SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]
LINES = {
    "triangle": [(0, 1), (1, 2), (2, 0)],
    "quad": [(0, 1), (1, 2), (2, 3), (3, 0), (0, 1, 2, 3)],
    "tetra": [(0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)],
    "hexahedron": [
        (0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7),
        (0, 3, 4, 7), (1, 2, 5, 6), (0, 1, 4, 5), (2, 3, 6, 7), (0, 1, 2, 3), (4, 5, 6, 7), tuple(range(8)),
    ],
}  # fmt: skip
CORNERS = {
    "triangle": SQUARE[:2] + SQUARE[3:],
    "quad": SQUARE,
    "tetra": np.vstack([np.zeros(3), np.eye(3)]),
    "hexahedron": [[*p, z] for z in (0, 1) for p in SQUARE],
}
ELEMENTS = {
    "triangle": [("P", 1), ("P", 2), ("DG", 1), ("RT", 2), ("CR", 1)],
    "quadrilateral": [("P", 2), ("DG", 2), ("RT", 1)],
    "tetrahedron": [("P", 2), ("DG", 1), ("N1curl", 1)],
    "hexahedron": [("P", 2), ("N1curl", 1)],
}
CASES = [(cell, *element) for cell, elements in ELEMENTS.items() for element in elements]


def vtk_nodes(name):
    """Reference coordinates of the nodes of a cell in VTK's order."""
    kind = next(k for k in LINES if name.startswith(k))
    corners = np.array(CORNERS[kind], dtype=float)
    if name == kind:
        return corners
    return np.vstack([corners, *(corners[list(group)].mean(axis=0) for group in LINES[kind])])


def canonical(mesh, family, degree, **kwargs):
    return CanonicalSpace(mesh, basix.ufl.element(family, mesh.arrays.cell_type, degree, **kwargs))


def noise(space, seed=4, steps=None):
    shape = space.size if steps is None else (steps, space.size)
    return np.random.default_rng(seed).standard_normal(shape)


def padded(values):
    """Values (…, components) as ParaView wants them."""
    c = values.shape[-1]
    return values[..., 0] if c == 1 else np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 3 - c)])


def check_cells(mesh, read, fields):
    """Every node of every cell that was read is where the cell has it, with the value there."""
    (block,) = read.cells
    X = vtk_nodes(block.type)
    where = Location(*mesh.geometry.everywhere(X))
    x = mesh.geometry.points(where.cells, where.X)
    nodes = block.data.ravel()
    np.testing.assert_allclose(read.points[nodes], np.pad(x, ((0, 0), (0, 3 - x.shape[1]))), atol=1e-14)
    for name, (space, values) in fields.items():
        expected = padded((evaluation(space, where) @ values).reshape(len(nodes), -1))
        np.testing.assert_allclose(read.point_data[name][nodes], expected, atol=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize(("cell", "family", "degree"), CASES)
def test_vtu_has_the_values_of_the_field_at_all_nodes(shared_folder, cell, family, degree):
    mesh = some_mesh(cell, degree=2)
    space, constants = canonical(mesh, family, degree), canonical(mesh, "DG", 0, shape=(2,))
    fields = {"u": (space, noise(space)), "k": (constants, noise(constants))}
    spon.write(shared_folder / "u.vtu", None, fields)
    WORLD.Barrier()
    read = meshio.read(shared_folder / "u.vtu")
    assert len(read.points) <= len(mesh.arrays.cells) * len(vtk_nodes(read.cells[0].type))
    check_cells(mesh, read, {"u": fields["u"]})
    np.testing.assert_array_equal(read.cell_data["k"][0], padded(fields["k"][1].reshape(-1, 2)))


@pytest.mark.parametrize("cell", CELLS)
def test_vtu_of_first_order_keeps_the_points_of_the_mesh(tmp_path, cell):
    mesh = some_mesh(cell, comm=MPI.COMM_SELF)
    space = canonical(mesh, "P", 1)
    spon.write(tmp_path / "u.vtu", space, {"u": noise(space)})
    read = meshio.read(tmp_path / "u.vtu")
    np.testing.assert_array_equal(read.points[:, : mesh.arrays.gdim], mesh.arrays.points)
    np.testing.assert_array_equal(read.point_data["u"], noise(space))
    check_cells(mesh, read, {"u": (space, noise(space))})


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_xdmf_has_vertex_and_cell_values(shared_folder, cell):
    mesh = some_mesh(cell)
    space, constants = canonical(mesh, "P", 1, shape=(2,)), canonical(mesh, "DG", 0)
    fields = {"u": noise(space), "k": noise(constants)}
    spon.write(shared_folder / "u.xdmf", {"u": space, "k": constants}, fields)
    WORLD.Barrier()
    read = meshio.read(shared_folder / "u.xdmf")
    np.testing.assert_array_equal(read.points[:, : mesh.arrays.gdim], mesh.arrays.points)
    np.testing.assert_array_equal(read.point_data["u"], padded(fields["u"].reshape(-1, 2)))
    np.testing.assert_array_equal(np.ravel(read.cell_data["k"][0]), fields["k"])
    check_cells(mesh, read, {"u": (space, fields["u"])})


def test_xdmf_says_what_it_reduces(tmp_path):
    mesh = some_mesh("triangle", degree=2, comm=MPI.COMM_SELF)
    p2, rt = canonical(mesh, "P", 2), canonical(mesh, "RT", 1)
    constant = interpolate(rt, lambda x: np.stack([1 + 0 * x[0], 2 + 0 * x[0]]))
    message = r"'u' \(P2 triangle\), 'q' \(RT1 triangle\), the curved mesh reduced to values at vertices"
    with pytest.warns(UserWarning, match=message):
        spon.write(tmp_path / "u.xdmf", None, {"u": (p2, noise(p2)), "q": (rt, constant)})
    read = meshio.read(tmp_path / "u.xdmf")
    vertices = len(mesh.topology.vertex_points)
    np.testing.assert_allclose(read.point_data["u"], noise(p2)[:vertices], atol=1e-13)
    assert read.point_data["q"].shape == (vertices, 3)
    with pytest.warns(UserWarning, match=r"'u' \(P3 triangle\) is reduced to degree 2; .bp keeps it"):
        spon.write(tmp_path / "u.vtu", canonical(mesh, "P", 3), {"u": noise(canonical(mesh, "P", 3))})


def read_vtx(path, name, step=0):
    """All points and values of a VTX file, (n, 3) and (n, components)."""
    with adios2.FileReader(str(path)) as file:
        found = [
            [file.read(n, block_id=b, step_selection=[s, 1]) for b in range(WORLD.size)]
            for n, s in (("geometry", 0), (name, step))
        ]
    points, values = (np.concatenate([a.reshape(-1, a.shape[-1]) for a in blocks]) for blocks in found)
    return points, values


@pytest.mark.mpi
@pytest.mark.parametrize(("cell", "family", "degree"), [*CASES, ("triangle", "P", 3), ("triangle", "DG", 0)])
def test_vtx_has_the_values_of_the_field(shared_folder, cell, family, degree):
    mesh = some_mesh(cell)
    space = canonical(mesh, family, degree)
    values = noise(space)
    for _ in range(2):  # also where there is one already
        spon.write(shared_folder / "u.bp", space, {"u": values})
    points, found = read_vtx(shared_folder / "u.bp", "u")
    gdim = mesh.arrays.gdim
    if degree == 0:
        np.testing.assert_array_equal(np.sort(found.ravel()), np.sort(values))
        return
    nodes = (
        reference.lattice(cell, 1)
        if degree == 1
        else CanonicalSpace(mesh, basix.ufl.element("P", cell, degree)).parts[0].numbering.element.points
    )
    where = Location(*mesh.geometry.everywhere(np.array(nodes)))
    x = mesh.geometry.points(where.cells, where.X)
    expected = (evaluation(space, where) @ values).reshape(len(x), -1)
    expected = np.hstack([x, expected])
    found = np.hstack([points[:, :gdim], found[:, : expected.shape[1] - gdim]])
    for one, other in ((found, expected), (expected, found)):
        assert cKDTree(one).query(other)[0].max() < 1e-11


@pytest.mark.mpi
@pytest.mark.parametrize("cell", ["triangle", "hexahedron"])
def test_vtx_keeps_curved_cells_curved(shared_folder, cell):
    mesh = some_mesh(cell, degree=2)
    space = canonical(mesh, "P", 1)
    spon.write(shared_folder / "u.bp", space, {"u": noise(space)})
    points, _ = read_vtx(shared_folder / "u.bp", "u")
    for one, other in ((points[:, : mesh.arrays.gdim], mesh.arrays.points), (mesh.arrays.points, points)):
        assert cKDTree(one).query(other[:, : mesh.arrays.gdim])[0].max() < 1e-14


@pytest.mark.mpi
def test_vtx_brings_several_spaces_into_one(shared_folder):
    mesh = some_mesh("triangle")
    p2, dg0, rt = canonical(mesh, "P", 2), canonical(mesh, "DG", 0), canonical(mesh, "RT", 1)
    tensor = canonical(mesh, "P", 1, shape=(2, 2), symmetry=True)
    p = {"u": polynomial(2, 2, 1), "T": polynomial(2, 1, 3)}
    fields = {
        "u": (p2, interpolate(p2, lambda x: p["u"](x[:2]))),
        "k": (dg0, np.ones(dg0.size)),
        "q": (rt, interpolate(rt, lambda x: np.stack([1 + 0 * x[0], 2 + 0 * x[0]]))),
        "T": (tensor, p["T"](mesh.arrays.points.T).T.ravel()),
    }
    spon.write(shared_folder / "u.bp", fields)
    x, u = read_vtx(shared_folder / "u.bp", "u")
    assert len(x) == 6 * len(mesh.arrays.cells)
    np.testing.assert_allclose(u[:, 0], p["u"](x.T[:2])[0], atol=1e-12)
    np.testing.assert_allclose(read_vtx(shared_folder / "u.bp", "k")[1], 1, atol=1e-13)
    q = read_vtx(shared_folder / "u.bp", "q")[1]
    np.testing.assert_allclose(q, np.broadcast_to([1, 2, 0], q.shape), atol=1e-12)
    xx, xy, yy = p["T"](x.T[:2])
    T = read_vtx(shared_folder / "u.bp", "T")[1]
    np.testing.assert_allclose(
        T, np.stack([xx, xy, 0 * xx, xy, yy, 0 * xx, 0 * xx, 0 * xx, 0 * xx], 1), atol=1e-12
    )


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("cell", "family"), [("triangle", "RT"), ("tetrahedron", "N1curl"), ("tetrahedron", "RT")]
)
def test_polynomials_survive(shared_folder, cell, family):
    mesh = TaggedMesh(shuffled(box(cell, 2)), WORLD)
    gdim = mesh.arrays.gdim
    p = polynomial(gdim, 1, gdim)
    space = canonical(mesh, family, 2)
    values = interpolate(space, lambda x: p(x[:gdim]))
    spon.write(shared_folder / "q.vtu", space, {"q": values})
    spon.write(shared_folder / "q.bp", space, {"q": values})
    WORLD.Barrier()
    read = meshio.read(shared_folder / "q.vtu")
    for x, q in ((read.points, read.point_data["q"]), read_vtx(shared_folder / "q.bp", "q")):
        np.testing.assert_allclose(q, padded(p(x.T[:gdim]).T), atol=1e-12)


@pytest.mark.mpi
def test_series_in_every_format(shared_folder):
    mesh = some_mesh("quadrilateral")
    space, constants = canonical(mesh, "P", 1), canonical(mesh, "DG", 0)
    times, values, constant = [0.0, 0.5, 2.0], noise(space, steps=3), noise(constants)
    fields = {"u": (space, values), "k": (constants, constant)}
    for suffix in ("pvd", "xdmf"):
        spon.write(shared_folder / f"u.{suffix}", None, fields, times=times)
    spon.write(shared_folder / "u.bp", space, {"u": values}, times=times)
    WORLD.Barrier()
    listed = ElementTree.parse(shared_folder / "u.pvd").getroot().findall("Collection/DataSet")
    assert [float(item.get("timestep")) for item in listed] == times
    with meshio.xdmf.TimeSeriesReader(shared_folder / "u.xdmf") as reader:
        reader.read_points_cells()
        steps = [reader.read_data(k) for k in range(reader.num_steps)]
    with adios2.FileReader(str(shared_folder / "u.bp")) as file:
        assert file.read("step", step_selection=[0, 3]).ravel().tolist() == times
    for k, (item, (time, point_data, cell_data)) in enumerate(zip(listed, steps, strict=True)):
        assert time == times[k]
        read = meshio.read(shared_folder / item.get("file"))
        np.testing.assert_array_equal(read.point_data["u"], values[k])
        np.testing.assert_array_equal(read.cell_data["k"][0], constant)
        np.testing.assert_array_equal(np.ravel(point_data["u"]), values[k])
        np.testing.assert_array_equal(np.ravel(cell_data["k"][0]), constant)
        x, found = read_vtx(shared_folder / "u.bp", "u", step=k)
        distance, where = cKDTree(mesh.arrays.points).query(x[:, :2])
        assert distance.max() < 1e-14
        np.testing.assert_array_equal(found.ravel(), values[k][where])


def test_members_of_mixed_spaces_are_fields_of_their_own(tmp_path):
    mesh = some_mesh("triangle", comm=MPI.COMM_SELF)
    parts = [basix.ufl.element("P", "triangle", 2, shape=(2,)), basix.ufl.element("P", "triangle", 1)]
    order = CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, basix.ufl.mixed_element(parts)))
    w, space = noise(order), order.canonical
    split = space.parts[1].offset
    for key, names in ((("u", "p"), ("u", "p")), ("w", ("w_0", "w_1"))):
        spon.write(tmp_path / "w.vtu", order, {key: w})
        fields = {names[0]: (space.part(0), w[:split]), names[1]: (space.part(1), w[split:])}
        check_cells(mesh, meshio.read(tmp_path / "w.vtu"), fields)


@pytest.mark.mpi
def test_bad_calls_are_refused_on_all_ranks(shared_folder):
    mesh, other = some_mesh("triangle"), some_mesh("triangle")
    space = CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, ("P", 1)))
    u = np.zeros(space.size)
    bad = [
        ("u.vtk", {"u": u}, None, r"unknown output format; allowed: \.bp, \.xdmf, \.vtu, \.pvd, \.png"),
        ("u.bp", {"u": u[1:]}, None, r"field 'u' has values of shape \(8,\); allowed: \(9,\)"),
        ("u.bp", {"u": np.stack([u, u])}, None, "a series needs times"),
        ("u.bp", {"u": np.stack([u, u])}, [0.0], r"allowed: \(9,\) or \(1, 9\)"),
        ("u.bp", {"u": u}, [0.0, 1.0, 1.0], "time 2 is 1 after 1; allowed: finite and increasing"),
        ("u.pvd", {"u": u}, [], r"times of shape \(0,\)"),
        ("u.vtu", {"u": u}, [0.0], r"\.vtu has no times; allowed: \.bp, \.xdmf, \.pvd"),
        ("u.bp", {"geometry": u}, None, "'geometry' is reserved in .bp files"),
        ("u.vtu", {"a<b": u}, None, "'a<b' has one of the characters"),
        ("u.vtu", {"": u}, None, "allowed: printable text"),
        ("u.vtu", {("a", "b"): u}, None, "2 names .* for a space of 1 members"),
        ("u.vtu", {}, None, "there are no fields to write"),
        ("u.vtu", {"u": u, "v": (canonical(other, "P", 1), u)}, None, "several meshes; allowed: one mesh"),
    ]
    for name, fields, times, message in bad:
        with pytest.raises(spon.SponError, match=message):
            spon.write(shared_folder / name, space, fields, times=times)
    with pytest.raises(spon.SponError, match="there is no space for field 'u'; there is one for: v"):
        spon.write(shared_folder / "u.vtu", {"v": space}, {"u": u})
    WORLD.Barrier()
    assert list(shared_folder.iterdir()) == []
    for suffix in ("bp", "xdmf", "vtu", "pvd", "png"):
        with pytest.raises(spon.SponError, match=r"cannot write .*: No such file or directory"):
            spon.write(shared_folder / "absent" / f"u.{suffix}", space, {"u": u})


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_pictures_show_the_field(shared_folder, cell):
    mesh = some_mesh(cell, degree=2)
    space = canonical(mesh, "RT", 1)
    first = interpolate(space, lambda x: np.stack([1 + x[0], *x[1 : mesh.arrays.gdim]]))
    for name, values in (("a", first), ("b", 0 * first)):
        spon.write(shared_folder / f"{name}.png", space, {"q": values}, units={"q": "m/s"})
    WORLD.Barrier()
    a, b = (matplotlib.image.imread(shared_folder / f"{name}.png") for name in "ab")
    assert a.shape[0] > 300
    assert a.shape[1] > 400
    colours = [
        len(np.unique(image[:, : int(0.7 * image.shape[1])].reshape(-1, 4), axis=0)) for image in (a, b)
    ]
    assert colours[0] > 2 * colours[1]


def test_a_picture_is_made_where_pyvista_cannot_draw(tmp_path, monkeypatch):
    (tmp_path / "pyvista.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    mesh = some_mesh("hexahedron", comm=MPI.COMM_SELF)
    space = canonical(mesh, "P", 1)
    spon.write(tmp_path / "u.png", space, {"u": noise(space)})
    assert (tmp_path / "u.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("cell", CELLS)
def test_triangles_of_pictures_cover_the_surface(cell):
    mesh = TaggedMesh(shuffled(box(cell, 2)), MPI.COMM_SELF)
    cut = surface.inside if mesh.arrays.gdim == 2 else surface.surface
    for intervals in (1, 2, 3, 6):
        patches = cut(mesh, intervals)
        x = mesh.geometry.points(patches.where.cells, patches.where.X)[patches.triangles]
        sides = np.pad(x[:, 1:] - x[:, :1], ((0, 0), (0, 0), (0, 3 - x.shape[2])))
        area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
        assert area.min() > 1e-6
        assert area.sum() == pytest.approx(1 if mesh.arrays.gdim == 2 else 6)


@pytest.mark.mpi
def test_predict_maps_live_functions(problem, rng):
    class Double:
        def predict(self, inputs):
            return 2 * inputs

    mesh = TaggedMesh(square(6), WORLD)
    order = CanonicalOrder(mesh, spon.lagrange(mesh))
    m = fem.Function(order.space)
    m.interpolate(lambda x: x[0] - x[1])
    u = spon.predict(Double(), order, m)
    np.testing.assert_allclose(u.x.array, 2 * m.x.array, atol=1e-15)
