from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from mpi4py import MPI
from test_imports import WITHOUT_FEM, run_without

import spon
from meshes import box, mapped
from spon.cli.data import describe
from spon.cli.main import main
from spon.data.dataset import Failure
from spon.data.pictures import plot_samples
from spon.data.surfaces import Surface
from spon.fem import reference
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD
ALONE = MPI.COMM_SELF


@pytest.fixture
def file(dataset, shared_folder):
    path = shared_folder / "d.h5"
    if WORLD.rank == 0:
        failures = (Failure(7, "the linear solver did not converge"),)
        replace(dataset, sizes=(20, 3), failures=failures).save(path)
    WORLD.Barrier()
    return path


def on(kind, degree, samples=3):
    """A data set with a vector, cell values, numbers and boundary data."""
    arrays = mapped(box(kind, 2, degree), lambda x: (x[0] + 0.2 * x[1], *x[1:]))
    t = np.linspace(1, 3, samples)[:, None]
    x = arrays.points
    q = np.stack([np.sin(t * x[:, 0]), np.cos(t * x[:, 1])], axis=-1)
    return spon.import_arrays(
        TaggedMesh(arrays, ALONE),
        {"q": q, "c": t * np.arange(len(arrays.cells)), "p": np.hstack([t, 2 * t])},
        ("u", t * x.sum(axis=1)),
        at={"p": "parameters"},
        boundary_data={"g": "left"},
        units={"u": "K"},
    )


@pytest.mark.mpi
def test_info_tells_all_there_is_to_know(file, dataset, capsys):
    main(["data", "info", str(file)])
    out = capsys.readouterr().out
    if WORLD.rank > 0:
        assert out == ""
        return
    low, high = dataset.inputs.min(), dataset.inputs.max()
    mean, spread = dataset.inputs[:20].mean(), dataset.inputs[:20].std()  # over the training part
    for text in (
        "24, split 20 + 3 (1 in no part); seed 1",
        f"kappa [W/(m K)]: P1 triangle, 169 DoFs, {low:.4g} to {high:.4g}, mean {mean:.4g}, "
        f"standard deviation {spread:.4g}",
        "u [K]: P1 triangle, 169 DoFs, ",
        "143 free of 169 DoFs; boundaries left, right, bottom, top",
        f"seconds: mean {dataset.seconds.mean():.4g}, max {dataset.seconds.max():.4g}",
        "1, the first is sample 7: the linear solver did not converge",
        "288 cells (triangle), 2-D",
        "3 with 169, 49, 16 nodes",
        dataset.discretisation.fingerprint,
        "format 2, ",
    ):
        assert text in out


@pytest.mark.parametrize("verb", ["info", "plot"])
def test_no_dolfinx_and_no_mpi_is_needed(file, verb):
    result = run_without(
        WITHOUT_FEM, f"from spon.cli.main import main\nmain(['data', {verb!r}, {str(file)!r}])"
    )
    assert result.returncode == 0, result.stderr
    assert str(file.with_suffix(".png" if verb == "plot" else ".h5")) in result.stdout


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "absent.h5"], "no such file: absent.h5"),
        (["plot", "d.h5", "-n", "0"], "-n 0: how many samples to draw; allowed: 1, 2"),
        (["plot", "d.h5", "--samples", "0,24"], "sample 24; allowed: 1 to 20 of the samples 0 to 23"),
        (["plot", "d.h5", "-n", "21"], "21 samples; allowed: 1 to 20 of the samples 0 to 23"),
        (["plot", "d.h5", "-o", "d.pdf"], "d.pdf: pictures are .png; found '.pdf'"),
        (["plot", "d.h5", "-o", "absent/d.png"], "cannot write absent/d.png: No such file"),
    ],
)
def test_bad_arguments_are_answered_in_one_line(file, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(file.parent)
    with pytest.raises(SystemExit) as stop:
        main(["data", *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    if WORLD.rank == 0:
        assert err.startswith(f"spon: error: {message}")
        assert len(err.splitlines()) == 1
        assert [path.name for path in file.parent.iterdir()] == ["d.h5"]
    WORLD.Barrier()


@pytest.mark.mpi
def test_plot_draws_a_row_for_each_sample(file, capsys):
    heights = []
    for samples in ("3", "3,0,11"):
        main(["data", "plot", str(file), "--samples", samples, "-o", str(file.with_name("p.png"))])
        WORLD.Barrier()
        picture = matplotlib.image.imread(file.with_name("p.png"))
        heights.append(picture.shape[0])
        assert picture[..., :3].std() > 0.1
        WORLD.Barrier()
    assert heights[1] > 2 * heights[0]


@pytest.mark.parametrize(
    ("kind", "degree"), [("quadrilateral", 1), ("triangle", 2), ("tetrahedron", 1), ("hexahedron", 2)]
)
def test_every_kind_of_cell_and_input_is_drawn(kind, degree, tmp_path):
    dataset = on(kind, degree)
    plot_samples(tmp_path / "p.png", dataset, [0, 2])
    assert matplotlib.image.imread(tmp_path / "p.png").shape[0] > 300
    assert "g: trace of " in "\n".join(describe(dataset, tmp_path / "p.png"))
    assert "boundary data on left" in "\n".join(describe(dataset, tmp_path / "p.png"))


def test_members_of_mixed_spaces_are_drawn_one_by_one(tmp_path):
    import basix.ufl
    from dolfinx import fem

    hierarchy = spon.Hierarchy.uniform(TaggedMesh(box("triangle", 2), ALONE), 0)
    velocity = basix.ufl.element("Lagrange", "triangle", 2, shape=(2,))
    mixed = basix.ufl.mixed_element([velocity, basix.ufl.element("Lagrange", "triangle", 1)])
    space = fem.functionspace(hierarchy.finest.dolfinx, mixed)
    flux = fem.functionspace(hierarchy.finest.dolfinx, ("RT", 1))
    made = spon.discretise(hierarchy, space, inputs={"flux": flux})
    values = [np.random.default_rng(0).standard_normal((2, s.dofs)) for s in (made.input, made.output)]
    plot_samples(tmp_path / "p.png", spon.Dataset(made, *values, np.arange(2)), [1])
    narrow = matplotlib.image.imread(tmp_path / "p.png").shape[1]
    plot_samples(tmp_path / "q.png", on("triangle", 1), [1])  # three fields and numbers
    assert narrow < matplotlib.image.imread(tmp_path / "q.png").shape[1]


@pytest.mark.parametrize("kind", reference.CELL_TYPES)
@pytest.mark.parametrize("degree", [1, 2])
def test_polygons_cover_the_mesh_or_its_surface_once(kind, degree):
    arrays = box(kind, 2, degree)
    mesh = TaggedMesh(arrays, ALONE)
    space = spon.lagrange(mesh, degree)
    level = spon.discretise(spon.Hierarchy.uniform(mesh, 0), space).levels[0]
    surface = Surface.of(level)
    p = np.pad(surface.points, ((0, 0), (0, 3 - arrays.gdim)))[surface.polygons]
    normals = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    areas = np.linalg.norm(normals, axis=1) / (1 if kind == "hexahedron" else 2)
    assert areas.sum() == pytest.approx(1 if arrays.gdim == 2 else 6)
    near = np.abs(p.mean(axis=1)[:, : arrays.gdim] - arrays.centroids[surface.owners]).max()
    assert near <= 0.25 + 1e-12


def test_colours_are_those_of_the_values():
    dataset = on("triangle", 1)
    surface = Surface.of(dataset.discretisation.levels[0])
    axis = Figure().add_subplot()
    cells = dataset.input("c")[1]
    drawn = surface.draw_cells(axis, cells, {})
    np.testing.assert_array_equal(drawn.get_array(), cells[surface.owners])
    drawn = surface.draw_nodes(axis, dataset.outputs[1], {})
    np.testing.assert_array_equal(drawn.get_array(), dataset.outputs[1])
