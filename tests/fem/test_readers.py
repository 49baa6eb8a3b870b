from dataclasses import replace

import gmsh
import meshio
import numpy as np
import pytest
import ufl
from dolfinx import fem, io
from mpi4py import MPI

import spon
from meshes import box, mapped
from spon.fem import reference
from spon.fem.measures import cell_measures, facet_measures
from spon.fem.mesh import TaggedMesh
from spon.fem.readers import read_arrays
from spon.fem.refinement import refine
from spon.fem.serendipity import complete
from spon.fem.writers import write_arrays

WORLD = MPI.COMM_WORLD
VTK = {  # corners and midsides in VTK's order, as corners of the reference cell of DOLFINx
    "quadrilateral": ([0, 1, 3, 2], [(0, 1), (1, 3), (3, 2), (2, 0)]),
    "hexahedron": (
        [0, 1, 3, 2, 4, 5, 7, 6],
        [(0, 1), (1, 3), (3, 2), (2, 0), (4, 5), (5, 7), (7, 6), (6, 4), (0, 4), (1, 5), (3, 7), (2, 6)],
    ),
}
KINDS = pytest.mark.parametrize(
    ("cell_type", "degree"), [(c, d) for c in reference.CELL_TYPES for d in (1, 2)]
)
GEO = """
SetFactory("OpenCASCADE");
{body}
Mesh.ElementOrder = {order}; Mesh.SecondOrderIncomplete = {incomplete}; Mesh.MeshSizeMax = 0.7;
"""
DISK = """
Disk(1) = {0, 0, 0, 1}; Physical Surface("disk") = {1}; Physical Curve("rim") = {1}; Point(9) = {5, 5, 5};
"""
BALL = """
Box(1) = {0, 0, 0, 1, 1, 1}; Cylinder(2) = {0, 0, 0, 0, 0, 1, 0.5};
BooleanDifference(3) = { Volume{1}; Delete; }{ Volume{2}; Delete; };
Physical Volume("block") = {3}; Physical Surface("all") = Boundary{ Volume{3}; };
"""
BRICK = """
Rectangle(1) = {0, 0, 0, 1, 2}; Transfinite Surface {1}; Recombine Surface {1};
out[] = Extrude {0, 0, 3} { Surface{1}; Layers{2}; Recombine; };
Physical Volume("brick") = {1}; Physical Surface("bottom") = {1}; Physical Surface("top") = {out[0]};
"""


def bent(x):
    return [c + 0.1 * np.sin(2 * x[k - 1]) for k, c in enumerate(x)]


def two_groups(cell_type, degree):
    """A curved mesh of two interleaved groups of cells, whose nodes no symmetry exchanges."""
    arrays = mapped(box(cell_type, 2, degree), bent)
    tags = np.arange(len(arrays.cells), dtype=np.int32) % 2 + 1
    return replace(arrays, cell_tags=tags, cell_names={"even": 1, "odd": 2})


def by_name(arrays):
    facets = np.sort(arrays.facets, axis=1)
    return {n: set(map(tuple, facets[arrays.facet_tags == t])) for n, t in arrays.facet_names.items()}


def same(a, b):
    assert a.cell_type == b.cell_type
    np.testing.assert_array_equal(a.cells, b.cells)
    np.testing.assert_allclose(a.points, b.points, rtol=0, atol=1e-14)
    assert by_name(a) == by_name(b)
    # the corners of a facet are in the order that refinement relies on
    assert facet_measures(refine(b)[0]).sum() == pytest.approx(facet_measures(a).sum(), rel=1e-6)
    for name in a.cell_names:
        np.testing.assert_array_equal(a.cells_named(name), b.cells_named(name))


@KINDS
@pytest.mark.parametrize("suffix", ["msh", "vtu", "xdmf", "vtk", "inp", "med"])
def test_what_is_written_is_read_back(tmp_path, cell_type, degree, suffix):
    arrays = two_groups(cell_type, degree)
    path = tmp_path / f"part.{suffix}"
    if degree == 2 and (suffix, cell_type) in {
        ("inp", "hexahedron"),
        ("med", "hexahedron"),
        ("med", "quadrilateral"),
    }:
        with pytest.raises(spon.SponError, match=r"part\.\w+: meshio cannot write this mesh: "):
            write_arrays(path, arrays)
        assert list(tmp_path.iterdir()) == []
        return
    assert write_arrays(path, arrays) == []
    same(arrays, read_arrays(path))


@KINDS
def test_what_dolfinx_wrote_is_read(tmp_path, cell_type, degree):
    arrays = two_groups(cell_type, degree)
    mesh = TaggedMesh(arrays, MPI.COMM_SELF).dolfinx
    with io.XDMFFile(MPI.COMM_SELF, str(tmp_path / "a.xdmf"), "w") as file:
        file.write_mesh(mesh)
    back = read_arrays(tmp_path / "a.xdmf")
    assert (back.cell_type, back.degree) == (cell_type, degree)
    order = [np.lexsort(np.round(mesh.centroids, 9).T) for mesh in (arrays, back)]
    np.testing.assert_allclose(cell_measures(back)[order[1]], cell_measures(arrays)[order[0]], rtol=1e-12)


@KINDS
def test_names_that_a_format_loses_are_told(tmp_path, cell_type, degree):
    arrays = two_groups(cell_type, degree)
    spaced = replace(arrays, cell_names={"even": 1, "the odd ones": 2})
    assert write_arrays(tmp_path / "a.vtk", spaced) == [
        ".vtk files cannot keep these cell groups: the odd ones"
    ]
    ungrouped = replace(arrays, cell_tags=np.where(arrays.cell_tags == 2, -1, 1).astype(np.int32))
    lost = write_arrays(tmp_path / "a.msh", replace(ungrouped, cell_names={"even": 1}))
    assert lost == [f"{(ungrouped.cell_tags < 0).sum()} cells in no group came into the group '2'"]
    assert write_arrays(tmp_path / "a.vtu", replace(ungrouped, cell_names={"even": 1})) == []


@pytest.mark.parametrize("suffix", ["stl", "doc", "geo"])
def test_formats_that_cannot_hold_a_mesh_are_refused(tmp_path, suffix):
    with pytest.raises(spon.SponError, match=r"unknown mesh format|cannot hold the mesh"):
        write_arrays(tmp_path / f"a.{suffix}", box("triangle", 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "cell_type", "incomplete", "measure", "side"),
    [
        (DISK, "triangle", 0, np.pi, 2 * np.pi),
        (DISK + "Mesh.RecombineAll = 1;", "quadrilateral", 0, np.pi, 2 * np.pi),
        (DISK + "Mesh.RecombineAll = 1;", "quadrilateral", 1, np.pi, 2 * np.pi),
        (BALL, "tetrahedron", 0, 1 - np.pi / 16, 6 - np.pi / 8 - 1 + np.pi / 4),
        (BRICK, "hexahedron", 0, 6, 4),
        (BRICK, "hexahedron", 1, 6, 4),
    ],
)
@pytest.mark.parametrize("order", [1, 2])
def test_gmsh_elements_of_both_orders_have_the_measures_of_the_geometry(
    tmp_path, body, cell_type, incomplete, measure, side, order
):
    (tmp_path / "part.geo").write_text(GEO.format(body=body.strip(), order=order, incomplete=incomplete))
    arrays = read_arrays(tmp_path / "part.geo")
    assert (arrays.cell_type, arrays.degree) == (cell_type, order)
    # curved cells are much nearer than polygons
    tolerance = {1: 0.12, 2: 6e-3}[order] if body != BRICK else 1e-13
    assert cell_measures(arrays).sum() == pytest.approx(measure, rel=tolerance)
    assert facet_measures(arrays).sum() == pytest.approx(side, rel=tolerance)
    assert facet_measures(refine(arrays)[0]).sum() == pytest.approx(side, rel=tolerance)


@pytest.mark.parametrize("version", [2.2, 4.1])
@pytest.mark.parametrize("binary", [0, 1])
def test_both_versions_of_msh_files_hold_the_same_mesh(tmp_path, version, binary):
    (tmp_path / "part.geo").write_text(GEO.format(body=BRICK.strip(), order=2, incomplete=1))
    gmsh.initialize(interruptible=False)
    gmsh.option.setNumber("General.Terminal", 0)
    gmsh.open(str(tmp_path / "part.geo"))
    gmsh.model.mesh.generate(3)
    gmsh.option.setNumber("Mesh.MshFileVersion", version)
    gmsh.option.setNumber("Mesh.Binary", binary)
    gmsh.write(str(tmp_path / "part.msh"))
    gmsh.finalize()
    same(read_arrays(tmp_path / "part.geo"), read_arrays(tmp_path / "part.msh"))
    whole = (tmp_path / "part.msh").read_bytes()
    (tmp_path / "cut.msh").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(spon.SponError, match=r"cut\.msh: (is no file of gmsh or is cut off|gmsh cannot)"):
        read_arrays(tmp_path / "cut.msh")


@pytest.mark.parametrize("cell_type", VTK)
@pytest.mark.parametrize("suffix", ["vtu", "xdmf", "inp"])
def test_serendipity_cells_keep_their_geometry(tmp_path, cell_type, suffix, rng):
    straight = box(cell_type, 2, 2)
    corners, edges = VTK[cell_type]
    n = len(corners)
    order = list(map(tuple, np.sort(reference.edge_corners(cell_type), axis=1)))
    midsides = [n + order.index(tuple(sorted(e))) for e in edges]
    cells = straight.cells[:, [*corners, *midsides]]
    # a serendipity map is one of degree 2 in each face: bend by a quadratic function
    points = straight.points + 0.1 * (straight.points @ rng.random((straight.gdim, straight.gdim))) ** 2
    kind = {"quadrilateral": "quad8", "hexahedron": "hexahedron20"}[cell_type]
    flat = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
    meshio.write(tmp_path / f"part.{suffix}", meshio.Mesh(flat, [(kind, cells)]))
    arrays = read_arrays(tmp_path / f"part.{suffix}", drop_unused=True)  # the nodes that make a quad9
    assert arrays.degree == 2
    assert len(arrays.points) == len(points)
    assert list(arrays.cell_names) == ["domain"]
    bent = replace(straight, points=points)
    np.testing.assert_allclose(cell_measures(arrays), cell_measures(bent), rtol=1e-12)
    np.testing.assert_allclose(arrays.points[arrays.cells], bent.points[bent.cells], rtol=0, atol=1e-14)


def test_neighbours_share_the_completed_faces():
    whole = box("hexahedron", 2, 2)
    points, cells = complete("hexahedron", whole.points, whole.cells[:, :20])
    assert len(np.unique(cells[:, 20:26])) == 36
    assert len(points) - len(whole.points) == 36 + 8
    np.testing.assert_allclose(points[cells], whole.points[whole.cells], atol=1e-15)


INP = """*NODE
1, 0, 0, 7
2, 1, 0, 7
3, 1, 1, 7
4, 0, 1, 7
5, 2, 2, 7
*ELEMENT, TYPE=CPS3{domain}
1, 1, 2, 3
2, 1, 3, 4
*ELEMENT, TYPE=T3D2{wall}
3, 1, 2
4, 3, 4
*ELEMENT, TYPE=T3D2{inlet}
5, 4, 1
{more}
"""


def inp(path, domain="", wall="", inlet="", more=""):
    path.write_text(INP.format(domain=domain, wall=wall, inlet=inlet, more=more))
    return path


def test_element_sets_are_groups(tmp_path):
    named = inp(tmp_path / "a.inp", ", ELSET=plate", ", ELSET=wall", ", ELSET=inlet")
    listed = inp(tmp_path / "b.inp", more="*ELSET, ELSET=ALL\n1, 2, 3, 4, 5\n*ELSET, ELSET=inlet\n5,")
    a, b = (read_arrays(path, drop_unused=True) for path in (named, listed))
    assert by_name(a) == {"wall": {(0, 1), (2, 3)}, "inlet": {(0, 3)}}
    assert list(a.cell_names) == ["plate"]
    assert by_name(b) == {"inlet": {(0, 3)}}
    assert list(b.cell_names) == ["ALL"]
    assert a.points.shape == (4, 2)
    assert len(read_arrays(inp(tmp_path / "c.inp"), drop_unused=True).facets) == 0
    with pytest.raises(
        spon.SponError, match=r"1 points belong to no cell, the first is point 4; .* --drop-unused"
    ):
        read_arrays(named)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inlet": ", ELSET=inlet"}, r"1 of 3 \*ELEMENT lines have an ELSET; allowed: all or none of them"),
        ({"domain": ", ELSET=a", "wall": ", ELSET=b", "inlet": ", ELSET=b"}, r"several .* have ELSET=b"),
        ({"more": "*ELSET, ELSET=A\n3\n*ELSET, ELSET=B\nA"}, "set 'B' is made of other sets"),
        (
            {"more": "*ELSET, ELSET=A\n3, 4\n*ELSET, ELSET=B\n4, 5"},
            r"a facet belongs to more than one boundary: A, B$",
        ),
        (
            {"more": "*ELSET, ELSET=A\n1\n*ELSET, ELSET=B\n1, 3"},
            r"a cell belongs to more than one group: A, B$",
        ),
        ({"more": "*ELEMENT, TYPE=CPS4\n9, 1, 2, 3, 4"}, r"cells are quad, triangle; allowed: .*, one kind"),
        ({"more": "*ELEMENT, TYPE=CPS3\n9, 1, 2, 77"}, "meshio cannot read it: KeyError: 77"),
        ({"more": "*ELEMENT, TYPE=CPS3\n9, 1, 3, 2"}, "1 duplicate cells: cell 2 has the corners of cell 0"),
    ],
)
def test_abaqus_files_that_mislead_are_refused(tmp_path, arguments, message):
    with pytest.raises(spon.SponError, match=message) as error:
        read_arrays(inp(tmp_path / "a.inp", **arguments), drop_unused=True)
    assert "\n" not in str(error.value)


def plain(**changes):
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    parts = {"cells": [("triangle", [[0, 1, 2], [0, 2, 3]]), ("line", [[0, 1], [3, 0]])], **changes}
    return meshio.Mesh(parts.pop("points", points), parts.pop("cells"), **parts)


def test_numbers_on_facets_are_names(tmp_path):
    meshio.write(tmp_path / "a.vtu", plain(cell_data={"mark": [[0, 0], [7, 9]]}))
    arrays = read_arrays(tmp_path / "a.vtu")
    assert arrays.facet_names == {"7": 7, "9": 9}
    assert by_name(arrays) == {"7": {(0, 1)}, "9": {(0, 3)}}
    assert arrays.cell_names == {"domain": 1}
    physical = {"mark": [[0, 0], [7, 9]], "gmsh:physical": [[4, 4], [0, 5]]}
    meshio.write(tmp_path / "b.vtu", plain(cell_data=physical))
    arrays = read_arrays(tmp_path / "b.vtu")
    assert arrays.cell_names == {"4": 4}
    assert by_name(arrays) == {"5": {(0, 3)}}
    meshio.write(tmp_path / "c.vtu", plain(cell_data={"a": [[0, 0], [7, 9]], "b": [[0, 0], [1, 2]]}))
    with pytest.raises(spon.SponError, match="several arrays may number the boundaries: 'a', 'b'; allowed"):
        read_arrays(tmp_path / "c.vtu")


def test_a_facet_that_is_twice_in_one_boundary_is_one(tmp_path):
    twice = [("triangle", [[0, 1, 2], [0, 2, 3]]), ("line", [[0, 1], [3, 0], [1, 0]])]
    meshio.write(tmp_path / "a.vtu", plain(cells=twice, cell_data={"mark": [[0, 0], [7, 9, 7]]}))
    arrays = read_arrays(tmp_path / "a.vtu")
    np.testing.assert_array_equal(arrays.facets, [[0, 1], [3, 0]])
    np.testing.assert_array_equal(arrays.facet_tags, [7, 9])


SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
WEDGE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1.0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": SQUARE * [1, np.nan, 1]}, "points have a coordinate that is not finite"),
        ({"points": SQUARE @ [[1, 0, 0], [0, 1, 1], [0, 0, 1]]}, "triangles in 3-D space"),
        ({"cells": [("quad", [[0, 1, 3, 2]])]}, "1 cells are inverted: they fold over themselves"),
        ({"cells": [("quad", [[0, 1, 2, 9]])]}, "a cell refers to a point that does not exist: 9"),
        ({"cells": [("triangle", [[0, 1, 2], [1, 2, 0]])]}, "1 duplicate cells"),
        ({"cells": [("triangle", [[0, 1, 2]])]}, "1 points belong to no cell, the first is point 3"),
        ({"cells": [("line", [[0, 1]])]}, "cells are line; allowed: triangle"),
        ({"cells": [("wedge", [range(6)])], "points": WEDGE}, "cells are wedge; allowed: triangle"),
        ({"cells": [("triangle", [[0, 1, 2]]), ("quad", [[0, 1, 2, 3]])]}, "cells are quad, triangle"),
        (
            {"cells": [("tetra", [[0, 1, 2, 3]]), ("quad", [[0, 1, 2, 3]])], "points": WEDGE}
            | {"cell_data": {"mark": [[0], [1]]}},
            "boundary elements are quad; allowed: triangle, triangle6",
        ),
        (
            {"cells": [("triangle", [[0, 1, 2]]), ("line", [[1, 3]])], "cell_data": {"mark": [[0], [1]]}},
            "a named boundary has points that no cell has",
        ),
    ],
)
def test_bad_meshes_are_refused(tmp_path, changes, message):
    meshio.write(tmp_path / "a.vtu", plain(**changes))
    with pytest.raises(spon.SponError, match=message):
        read_arrays(tmp_path / "a.vtu", drop_unused="duplicate" in message)


def test_plane_points_of_a_body_are_refused(tmp_path):
    meshio.write(tmp_path / "a.xdmf", meshio.Mesh(WEDGE[:4, :2], [("tetra", [[0, 1, 2, 3]])]))
    with pytest.raises(spon.SponError, match="points have 2 coordinates; allowed for tetrahedron: 3"):
        read_arrays(tmp_path / "a.xdmf")


@pytest.mark.mpi
@KINDS
def test_dolfinx_integrates_over_what_was_read(shared_folder, cell_type, degree):
    if WORLD.rank == 0:
        write_arrays(shared_folder / "part.vtu", two_groups(cell_type, degree))
    WORLD.Barrier()
    mesh = spon.read_mesh(shared_folder / "part.vtu", WORLD)
    volume = WORLD.allreduce(fem.assemble_scalar(fem.form(1 * ufl.dx(mesh.dolfinx))))
    assert volume == pytest.approx(cell_measures(mesh.arrays).sum(), rel=1e-12)
    sides = facet_measures(mesh.arrays)
    for name, tag in mesh.arrays.facet_names.items():
        area = WORLD.allreduce(fem.assemble_scalar(fem.form(1 * mesh.ds(name))))
        assert area == pytest.approx(sides[mesh.arrays.facet_tags == tag].sum(), rel=1e-4)


@pytest.mark.mpi
@pytest.mark.parametrize("suffix", ["msh", "vtu", "xdmf", "vtk", "inp", "med"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5])
def test_cut_off_files_are_refused_on_all_ranks(shared_folder, capfd, suffix, kept):
    if WORLD.rank == 0:
        write_arrays(shared_folder / f"whole.{suffix}", box("tetrahedron", 2, 2))
        whole = (shared_folder / f"whole.{suffix}").read_bytes()
        (shared_folder / f"cut.{suffix}").write_bytes(whole[: int(kept * len(whole))])
    WORLD.Barrier()
    capfd.readouterr()
    with pytest.raises(spon.SponError, match=rf"cut\.{suffix}: ") as error:
        spon.read_mesh(shared_folder / f"cut.{suffix}", WORLD)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_an_xdmf_without_its_data_is_refused(tmp_path):
    write_arrays(tmp_path / "a.xdmf", box("triangle", 2))
    (tmp_path / "a.h5").unlink()
    with pytest.raises(spon.SponError, match=r"a\.xdmf: meshio cannot read it: .*a\.h5"):
        read_arrays(tmp_path / "a.xdmf")


def test_a_group_of_gmsh_may_have_several_parts_and_overlaps_are_refused(tmp_path):
    geo = (
        'SetFactory("OpenCASCADE"); Rectangle(1) = {0, 0, 0, 1, 1}; Rectangle(2) = {1, 0, 0, 1, 1};'
        'Coherence; Physical Surface("both") = {1, 2}; Physical Curve("a") = {1, 5};'
    )
    (tmp_path / "a.geo").write_text(geo + "\n")
    arrays = read_arrays(tmp_path / "a.geo")
    assert facet_measures(arrays).sum() == pytest.approx(2)
    assert cell_measures(arrays).sum() == pytest.approx(2)
    for more, message in (
        ('Physical Curve("b") = {5, 6};', "a facet belongs to more than one boundary: a, b$"),
        ('Physical Surface("b") = {2};', "a cell belongs to more than one group: both, b$"),
    ):
        (tmp_path / "a.geo").write_text(geo + more + "\n")
        with pytest.raises(spon.SponError, match=message):
            read_arrays(tmp_path / "a.geo")
