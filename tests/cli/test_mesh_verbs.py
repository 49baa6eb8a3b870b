import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import MESHES
from mpi4py import MPI

from meshes import box, mapped
from spon.cli.main import main
from spon.cli.mesh import describe
from spon.fem import reference
from spon.fem.measures import cell_measures, cell_qualities, facet_measures
from spon.fem.readers import read_arrays
from spon.fem.topology import Topology
from spon.fem.writers import write_arrays

WORLD = MPI.COMM_WORLD
PLATE = str(MESHES / "plate.geo")


@pytest.mark.mpi
def test_info_tells_names_and_measures(capsys):
    main(["mesh", "info", PLATE])
    out = capsys.readouterr().out
    if WORLD.rank > 0:
        assert out == ""
        return
    assert re.search(r"cells +\d+ triangles of first order \(straight\), area 1\.772", out)
    assert "x 0 to 2, y 0 to 1" in out
    assert re.search(r"boundary +top +\d+ facets, length 2\n", out)
    assert re.search(r"boundary +slot +\d+ facets, length 1\.32\n", out)
    assert re.search(r"no name +0 boundary facets\n", out)
    assert re.search(r"mean ratio \(1 is perfect\): min 0\.\d+ in cell \d+ at \(", out)


@pytest.mark.mpi
def test_convert_and_refine_keep_names_on_any_number_of_ranks(shared_folder, capsys):
    main(["mesh", "convert", PLATE, str(shared_folder / "a.msh")])
    main(["mesh", "convert", str(shared_folder / "a.msh"), str(shared_folder / "b.xdmf")])
    main(["mesh", "refine", str(shared_folder / "b.xdmf"), str(shared_folder / "c.vtu"), "-n", "2"])
    out = capsys.readouterr().out
    a, b, c = (read_arrays(shared_folder / name) for name in ("a.msh", "b.xdmf", "c.vtu"))
    coarse = read_arrays(PLATE)
    for mesh in (a, b):
        np.testing.assert_array_equal(mesh.cells, coarse.cells)
        np.testing.assert_array_equal(mesh.points, coarse.points)
    assert len(c.cells) == 16 * len(coarse.cells)
    for name, tag in coarse.facet_names.items():
        length = facet_measures(coarse)[coarse.facet_tags == tag].sum()
        for mesh in (a, b, c):
            there = mesh.facet_tags == mesh.facet_names[name]
            assert facet_measures(mesh)[there].sum() == pytest.approx(length, abs=1e-12)
    if WORLD.rank == 0:
        assert f"c.vtu: {len(c.cells)} triangles, {len(c.points)} nodes" in out


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "absent.msh"], "no such mesh file: absent.msh"),
        (["convert", PLATE, "out.doc"], "out.doc: unknown mesh format '.doc'; allowed: "),
        (["convert", PLATE, "absent/out.msh"], "cannot write absent/out.msh: No such file or directory"),
        (["convert", PLATE, "out.stl"], "out.stl: this format cannot hold the mesh: "),
        (["refine", PLATE, "out.msh", "-n", "0"], "-n 0: how often to refine; allowed: 1, 2"),
    ],
)
def test_bad_arguments_are_answered_in_one_line_on_all_ranks(
    shared_folder, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(shared_folder)
    with pytest.raises(SystemExit) as stop:
        main(["mesh", *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == (WORLD.rank == 0)
    if WORLD.rank == 0:
        assert err.startswith("spon: error: ")
        assert message in err
        assert list(shared_folder.iterdir()) == []
    WORLD.Barrier()


@pytest.mark.parametrize("cell_type", reference.CELL_TYPES)
@pytest.mark.parametrize("degree", [1, 2])
def test_regular_cells_are_perfect_and_measures_are_those_of_the_map(cell_type, degree):
    arrays = box(cell_type, 2, degree)
    if cell_type == "triangle":
        arrays = mapped(arrays, lambda x: (x[0] - x[1] / 2, np.sqrt(3) / 2 * x[1]))
        assert cell_qualities(arrays).max() == pytest.approx(1, abs=1e-12)
    elif cell_type != "tetrahedron":
        assert cell_qualities(arrays) == pytest.approx(1, abs=1e-12)
    squeezed = mapped(box(cell_type, 2, degree), lambda x: (x[0] + 0.5 * x[1], *x[1:]))
    assert cell_qualities(squeezed).max() < 0.95
    assert cell_measures(squeezed).sum() == pytest.approx(1)
    np.testing.assert_allclose(
        cell_qualities(mapped(squeezed, lambda x: -3 * x)), cell_qualities(squeezed), atol=1e-12
    )


def test_a_regular_tetrahedron_is_perfect_and_a_flat_one_is_bad():
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    single = box("tetrahedron", 1)
    points = np.concatenate([corners, corners[:1] * [3, 1, 1], corners[:1] * 5])
    cells = np.array([[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 3, 5]])
    mesh = type(single)(
        points,
        cells,
        "tetrahedron",
        np.ones(3, np.int32),
        np.empty((0, 3), np.int64),
        np.empty(0, np.int32),
        {"a": 1},
        {},
    )
    quality = cell_qualities(mesh)
    assert quality[0] == pytest.approx(1, abs=1e-12)
    assert (quality[1:] < 0.9).all()


def test_curved_measures_are_those_of_the_curve(tmp_path):
    (tmp_path / "disk.geo").write_text(
        'SetFactory("OpenCASCADE"); Disk(1) = {0, 0, 0, 1}; Physical Surface("disk") = {1};'
        "Mesh.ElementOrder = 2; Mesh.MeshSizeMax = 0.2;\n"
    )
    arrays = read_arrays(tmp_path / "disk.geo")
    text = "\n".join(describe(arrays))
    area = float(re.search(r"area ([\d.]+)", text)[1])
    rim = float(re.search(r"no name +\d+ boundary facets, length ([\d.]+)", text)[1])
    assert area == pytest.approx(np.pi, rel=1e-4)
    assert rim == pytest.approx(2 * np.pi, rel=1e-4)
    exterior = np.flatnonzero(Topology(arrays).facet_cells == 1)
    corners = arrays.points[Topology(arrays).vertex_points[Topology(arrays).entities(1)[0][exterior]]]
    polygon = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1).sum()
    assert polygon < 2 * np.pi * (1 - 1e-3)
    write_arrays(tmp_path / "disk.vtu", arrays)
    assert describe(read_arrays(tmp_path / "disk.vtu"))[1:] == describe(arrays)[1:]


def test_a_reader_that_has_seen_enough_is_no_crash():
    command = [sys.executable, "-m", "spon", "mesh", "info", PLATE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
