import gmsh
import numpy as np
import pytest
import ufl
from conftest import MESHES, square
from dolfinx import fem
from mpi4py import MPI

import spon
from spon.fem.arrays import MeshArrays
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
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.msh", None, r"^no such mesh file: .*missing\.msh$"),
        ("part.stl", "solid", r"unknown mesh format '\.stl'; allowed: \.geo, \.msh"),
        ("bad.geo", "Point(1) = {0, 0\n", r"bad\.geo: gmsh cannot read it: "),
        ("empty.geo", "// nothing\n", r"empty\.geo: has no mesh in it"),
        (
            "groupless.geo",
            'SetFactory("OpenCASCADE"); Rectangle(1) = {0, 0, 0, 1, 1};\n',
            r"groupless\.geo: no physical groups of cells .* Physical Surface",
        ),
        ("cut.geo", "Point(1) = {0, 0, 0};", r"cut\.geo: its last line does not end, .* add a newline"),
        (
            "quads.geo",
            'SetFactory("OpenCASCADE"); Rectangle(1) = {0, 0, 0, 1, 1}; Physical Surface("a") = {1};'
            "Recombine Surface {1}; Mesh.RecombineAll = 1;\n",
            r"quads\.geo: cells are Quadrilateral 4; allowed: triangle, tetrahedron",
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


def test_damaged_arrays_are_refused():
    arrays = square(2)
    with pytest.raises(spon.SponError, match="1 points belong to no cell"):
        altered(points=np.concatenate([arrays.points, [[2.0, 2.0]]]))
    with pytest.raises(spon.SponError, match="not finite"):
        altered(points=np.where(arrays.points == 1.0, np.nan, arrays.points))
    with pytest.raises(spon.SponError, match="a point that does not exist"):
        altered(cells=arrays.cells + 1)
    with pytest.raises(spon.SponError, match="more than one boundary: left, right"):
        altered(
            facets=np.concatenate([arrays.facets, arrays.facets[:1]]),
            facet_tags=np.concatenate([arrays.facet_tags, [2]]).astype(np.int32),
        )
    with pytest.raises(spon.SponError, match="1 named facets belong to no cell"):
        altered(facets=np.concatenate([arrays.facets[:-1], [[0, 8 - 1]]]))
    with pytest.raises(spon.SponError, match="cells are prism; allowed: triangle"):
        altered(cell_type="prism")


def test_tetrahedra_are_read(tmp_path):
    (tmp_path / "cube.geo").write_text(
        'SetFactory("OpenCASCADE"); Box(1) = {0, 0, 0, 1, 2, 3}; Mesh.MeshSizeMax = 1;'
        'Physical Volume("body") = {1}; Physical Surface("all") = Boundary{ Volume{1}; };\n'
    )
    mesh = spon.read_mesh(tmp_path / "cube.geo", MPI.COMM_SELF)
    assert total(1 * mesh.ds("all"), MPI.COMM_SELF) == pytest.approx(22.0, abs=1e-12)
    assert total(1 * ufl.dx(mesh.dolfinx), MPI.COMM_SELF) == pytest.approx(6.0, abs=1e-12)
