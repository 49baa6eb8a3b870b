from dataclasses import replace

import gmsh
import numpy as np
import pytest
import ufl
from conftest import MESHES, square
from dolfinx import fem
from mpi4py import MPI

import spon
from meshes import box, mapped
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.mesh import TaggedMesh
from spon.fem.readers import read_arrays

WORLD = MPI.COMM_WORLD
NAMES = ["left", "right", "bottom", "top", "circle", "slot", "triangle"]


def write_msh(source, target, version):
    gmsh.initialize(interruptible=False)
    gmsh.option.setNumber("General.Terminal", 0)
    gmsh.open(str(source))
    gmsh.model.mesh.generate(2)
    gmsh.option.setNumber("Mesh.MshFileVersion", version)
    gmsh.write(str(target))
    gmsh.finalize()


def total(form, comm):
    return comm.allreduce(fem.assemble_scalar(fem.form(form)))


@pytest.mark.parametrize("version", [2.2, 4.1])
def test_msh_gives_the_same_mesh_as_its_geo(tmp_path, version):
    write_msh(MESHES / "plate.geo", tmp_path / "plate.msh", version)
    a, b = read_arrays(MESHES / "plate.geo"), read_arrays(tmp_path / "plate.msh")
    np.testing.assert_array_equal(a.cells, b.cells)
    np.testing.assert_allclose(a.points, b.points, atol=1e-15)
    np.testing.assert_array_equal(a.facets, b.facets)
    assert a.facet_names == b.facet_names
    assert list(a.facet_names) == NAMES
    assert a.cell_names == b.cell_names
    assert list(a.cell_names) == ["plate"]


@pytest.mark.mpi
def test_boundaries_have_their_lengths_on_any_number_of_ranks():
    mesh = spon.read_mesh(MESHES / "plate.geo", WORLD)
    assert total(1 * mesh.ds("left"), WORLD) == pytest.approx(1.0, abs=1e-12)
    assert total(1 * mesh.ds("top"), WORLD) == pytest.approx(2.0, abs=1e-12)
    assert total(1 * mesh.ds("slot"), WORLD) == pytest.approx(1.32, abs=1e-12)
    polygon = 12 * 2 * 0.18 * np.sin(np.pi / 12)
    assert total(1 * mesh.ds("circle"), WORLD) == pytest.approx(polygon, abs=1e-10)
    everything = sum(total(1 * mesh.ds(n), WORLD) for n in NAMES)
    assert everything == pytest.approx(total(1 * ufl.ds(mesh.dolfinx), WORLD), abs=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize("cell_type", reference.CELL_TYPES)
def test_groups_of_cells_are_integrated_over_by_name(cell_type):
    arrays = box(cell_type, 4)
    left = arrays.centroids[:, 0] < 0.25
    tags = np.where(left, 3, np.where(arrays.centroids[:, 0] < 0.75, 5, -1)).astype(np.int32)
    mesh = TaggedMesh(replace(arrays, cell_tags=tags, cell_names={"soft": 3, "hard": 5, "none": 9}), WORLD)
    assert total(1 * mesh.dx("soft"), WORLD) == pytest.approx(0.25, abs=1e-13)
    assert total(ufl.SpatialCoordinate(mesh.dolfinx)[0] * mesh.dx("hard"), WORLD) == pytest.approx(0.25)
    with pytest.raises(spon.SponError, match="cell group 'rigid' not found in box; it has: 'soft', 'hard'"):
        mesh.dx("rigid")
    with pytest.raises(spon.SponError, match="cell group 'none' of box has no cells"):
        mesh.dx("none")


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.msh", None, r"^no such mesh file: .*missing\.msh$"),
        ("part.doc", "solid", r"unknown mesh format '\.doc'; allowed: \.geo, \.msh, .*\.vtu"),
        ("bad.geo", "Point(1) = {0, 0\n", r"bad\.geo: gmsh cannot read it: "),
        ("empty.geo", "// nothing\n", r"empty\.geo: has no mesh in it"),
        (
            "groupless.geo",
            'SetFactory("OpenCASCADE"); Rectangle(1) = {0, 0, 0, 1, 1};\n',
            r"groupless\.geo: no physical groups of cells .* Physical Surface",
        ),
        ("cut.geo", "Point(1) = {0, 0, 0};", r"cut\.geo: its last line does not end, .* add a newline"),
        (
            "mixed.geo",
            'SetFactory("OpenCASCADE"); Rectangle(1) = {0, 0, 0, 1, 1}; Rectangle(2) = {1, 0, 0, 1, 1};'
            'Coherence; Recombine Surface {1}; Physical Surface("a") = {1, 2};\n',
            r"mixed\.geo: cells are Triangle 3, Quadrilateral 4; allowed: triangle, quad.*, one kind",
        ),
    ],
)
def test_bad_files_are_refused_on_all_ranks(shared_folder, name, content, message):
    if content is not None and WORLD.rank == 0:
        (shared_folder / name).write_text(content)
    with pytest.raises(spon.SponError, match=message) as error:
        spon.read_mesh(shared_folder / name, WORLD)
    assert "\n" not in str(error.value)


@pytest.mark.mpi
def test_unknown_boundary_names_those_that_exist():
    mesh = spon.read_mesh(MESHES / "plate.geo", WORLD)
    with pytest.raises(spon.SponError, match=r"boundary 'inflow' not found in .*; it has: 'left', 'right'"):
        mesh.facets("inflow")


def altered(**changes):
    arrays = square(2)
    return MeshArrays(**{**vars(arrays), **changes})


@pytest.mark.parametrize("cell_type", reference.CELL_TYPES)
@pytest.mark.parametrize("degree", [1, 2])
def test_unit_boxes_have_unit_measures(cell_type, degree):
    mesh = TaggedMesh(box(cell_type, 2, degree), MPI.COMM_SELF)
    assert mesh.arrays.degree == degree
    assert total(1 * ufl.dx(mesh.dolfinx), MPI.COMM_SELF) == pytest.approx(1.0, abs=1e-12)
    for name in mesh.arrays.facet_names:
        assert total(1 * mesh.ds(name), MPI.COMM_SELF) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("cell_type", reference.CELL_TYPES)
@pytest.mark.parametrize("degree", [1, 2])
def test_damaged_arrays_are_refused(cell_type, degree):
    arrays = box(cell_type, 2, degree)
    first, n = arrays.cells[:1], len(arrays.points)

    def damaged(**changes):
        return replace(arrays, **changes)

    def tags(n):
        return np.ones(n, np.int32)

    with pytest.raises(spon.SponError, match="1 points belong to no cell"):
        damaged(points=np.concatenate([arrays.points, 2 + arrays.points[:1]]))
    with pytest.raises(spon.SponError, match="a coordinate that is not finite, the first is point"):
        damaged(points=np.where(arrays.points == 1.0, np.nan, arrays.points))
    with pytest.raises(spon.SponError, match=f"a point that does not exist: {n}; allowed: 0 to {n - 1}"):
        damaged(cells=arrays.cells + 1)
    with pytest.raises(spon.SponError, match=rf"1 duplicate cells: cell {len(arrays.cells)} .* of cell 0$"):
        damaged(cells=np.concatenate([arrays.cells, first]), cell_tags=tags(len(arrays.cells) + 1))
    with pytest.raises(spon.SponError, match="more than one boundary: left, right"):
        damaged(
            facets=np.concatenate([arrays.facets, arrays.facets[:1, ::-1]]),
            facet_tags=np.concatenate([arrays.facet_tags, [2]]).astype(np.int32),
        )
    inner = arrays.cells[0, : arrays.facets.shape[1]].copy()
    inner[0] = arrays.cells[-1, arrays.corners.shape[1] - 1]
    with pytest.raises(spon.SponError, match="1 named facets belong to no cell"):
        damaged(facets=np.concatenate([arrays.facets[:-1], [inner]]))
    with pytest.raises(spon.SponError, match=f"a facet has 5 corners; allowed for {cell_type}: "):
        damaged(facets=np.zeros((len(arrays.facets), 5), np.int64))
    with pytest.raises(spon.SponError, match=r"cells are degenerate: .*; the first is cell 0 at \("):
        damaged(points=arrays.points * [0, *[1] * (arrays.gdim - 1)])
    with pytest.raises(spon.SponError, match=f"a {cell_type} has 2 nodes; allowed: "):
        damaged(cells=arrays.cells[:, :2])
    with pytest.raises(spon.SponError, match=f"points have 1 coordinates; allowed for {cell_type}: "):
        damaged(points=arrays.points[:, :1])


def test_unknown_cells_are_refused():
    with pytest.raises(
        spon.SponError, match="cells are prism; allowed: triangle, quadrilateral, tetrahedron"
    ):
        altered(cell_type="prism")
    with pytest.raises(spon.SponError, match="has no cells"):
        altered(cells=np.empty((0, 3), np.int64))


@pytest.mark.parametrize(
    ("cell_type", "swap"), [("quadrilateral", [1, 0, 2, 3]), ("hexahedron", range(7, -1, -1))]
)
def test_tensor_cells_in_another_order_fold(cell_type, swap):
    arrays = box(cell_type, 2)
    swap = [*swap[:2], *swap[2:][::-1]] if cell_type == "hexahedron" else swap
    cells = arrays.cells.copy()
    cells[2] = cells[2][list(swap)]
    with pytest.raises(spon.SponError, match=r"1 cells are inverted: they fold .* cell 2 at \("):
        replace(arrays, cells=cells)


@pytest.mark.parametrize("cell_type", reference.CELL_TYPES)
def test_curved_cells_fold_when_an_edge_node_passes_the_other_side(cell_type):
    arrays = box(cell_type, 1, degree=2)
    points = arrays.points.copy()
    middle = arrays.cells[0][(arrays.points[arrays.cells[0]] == 0.5).sum(axis=1) == 1][0]
    axis = int(np.flatnonzero(points[middle] != 0.5)[0])
    points[middle, axis] += 1.5 * (1 - 2 * points[middle, axis])
    with pytest.raises(spon.SponError, match=r"cells are inverted: they fold .*; the first is cell \d+ at"):
        replace(arrays, points=points)


@pytest.mark.parametrize("cell_type", reference.CELL_TYPES)
def test_mirrored_cells_and_coinciding_points_are_allowed(cell_type):
    arrays = box(cell_type, 2)
    mirrored = mapped(arrays, lambda x: (-x[0], *x[1:]))
    assert TaggedMesh(mirrored, MPI.COMM_SELF).arrays is mirrored
    left = (arrays.centroids[:, 0] < 0.5)[:, None]
    n = len(arrays.points)
    both = np.where(left, arrays.cells, arrays.cells + n)  # a crack along x = 1/2
    used, cells = np.unique(both, return_inverse=True)
    points = np.tile(arrays.points, (2, 1))[used]
    cracked = replace(
        arrays,
        points=points,
        cells=cells.reshape(both.shape),
        facets=arrays.facets[:0],
        facet_tags=arrays.facet_tags[:0],
    )
    mesh = TaggedMesh(cracked, MPI.COMM_SELF)
    sides = 6 if arrays.gdim == 2 else 8
    assert total(1 * ufl.ds(mesh.dolfinx), MPI.COMM_SELF) == pytest.approx(sides, abs=1e-12)


def test_tetrahedra_are_read(tmp_path):
    (tmp_path / "cube.geo").write_text(
        'SetFactory("OpenCASCADE"); Box(1) = {0, 0, 0, 1, 2, 3}; Mesh.MeshSizeMax = 1;'
        'Physical Volume("body") = {1}; Physical Surface("all") = Boundary{ Volume{1}; };\n'
    )
    mesh = spon.read_mesh(tmp_path / "cube.geo", MPI.COMM_SELF)
    assert total(1 * mesh.ds("all"), MPI.COMM_SELF) == pytest.approx(22.0, abs=1e-12)
    assert total(1 * ufl.dx(mesh.dolfinx), MPI.COMM_SELF) == pytest.approx(6.0, abs=1e-12)
