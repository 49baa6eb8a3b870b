from pathlib import Path

import meshio
import numpy as np
import pytest
from conftest import on_square
from mpi4py import MPI
from runs import write_run
from test_imports import WITHOUT_FEM, run_without

import spon
from meshes import box, mapped
from spon.cli.main import main
from spon.data.field_files import read_fields
from spon.data.field_outputs import _VTK
from spon.fem.mesh import TaggedMesh
from spon.fem.meshio_mesh import to_meshio
from spon.fem.meshio_reader import vtk_order
from spon.fem.writers import write_arrays

WORLD = MPI.COMM_WORLD
ALONE = MPI.COMM_SELF


def run(*words):
    main(["predict", "run", *map(str, words)])
    WORLD.Barrier()


@pytest.fixture
def plate(dataset, shared_folder, monkeypatch):
    """A run with one positive input, and inputs in files."""
    monkeypatch.chdir(shared_folder)
    if WORLD.rank == 0:
        write_run(shared_folder, dataset, "log")
        x = dataset.inputs[-4:]
        np.savez("k.npz", kappa=x, other=x)
        np.save("k.npy", x)
        np.savez("bad.npz", kappa=np.where(np.arange(x.shape[1]) == 3, np.nan, x))
        np.savez("short.npz", kappa=x[:, 1:])
        np.savez("swapped.npz", kappa=x.T)
        np.savez("negative.npz", kappa=-x)
        level = dataset.discretisation.levels[0]
        turn = np.random.default_rng(0).permutation(len(level.points))
        points = np.empty((len(turn), 3))
        points[turn] = np.pad(level.points, ((0, 0), (0, 1)))
        for k in range(4):
            kappa = np.empty(len(turn))
            kappa[turn] = x[k]
            data = {"kappa": kappa, "v": points}
            meshio.write(f"k_{k}.vtu", meshio.Mesh(points, [("triangle", turn[level.cells])], data))
        points[0, 0] += 0.01
        meshio.write("moved.vtu", meshio.Mesh(points, [("triangle", turn[level.cells])], data))
        write_arrays("fine.msh", on_square(3, 3).finest.arrays)
    WORLD.Barrier()
    yield dataset
    WORLD.Barrier()


def predicted(dataset, inputs, shift=None):
    return spon.load_model("run/model.pt", dataset.discretisation).predict(inputs, shift=shift)


@pytest.mark.mpi
@pytest.mark.parametrize("source", ["k.npz", "k.npy", "k_*.vtu"])
def test_predictions_are_those_of_the_model(plate, capsys, source):
    run("--input", f"kappa={source}", "-o", "u.npz")
    x = plate.inputs[-4:]
    found = np.load("u.npz")
    np.testing.assert_allclose(found["u"], predicted(plate, x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["kappa"], x, rtol=1e-12)
    assert found["samples"].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found["points"], plate.discretisation.levels[0].points)
    right = found["points"][:, 0] == 1.0
    np.testing.assert_array_equal(found["u"][:, right], 1.0)  # the boundary value, by coordinates
    out = capsys.readouterr().out
    if WORLD.rank == 0:
        assert out.count("boundary error 0.0e+00") == 4
        assert ("matched by coordinates" in out) == source.endswith("vtu")


@pytest.mark.mpi
def test_chosen_samples_in_every_format(plate, capsys):
    u = predicted(plate, plate.inputs[-4:])
    mesh = TaggedMesh(on_square(3, 2).finest.arrays, ALONE)
    for target, samples in (("u.vtu", [2]), ("u.pvd", [3, 1]), ("u.xdmf", [1, 3]), ("u.png", [0, 2])):
        run("--input", "kappa=k.npz", "--samples", ",".join(map(str, samples)), "-o", target)
        if WORLD.rank == 0 and target != "u.png":
            fields = read_fields([Path(target)], ["u"], mesh)
            np.testing.assert_allclose(fields.arrays["u"], u[samples], rtol=0, atol=1e-12)
        WORLD.Barrier()
    out = capsys.readouterr().out
    if WORLD.rank == 0:
        assert "sample 3: u from " in out
        assert "sample 0: u from " in out


def test_vtx_needs_dolfinx_and_has_a_step_for_each_sample(plate):
    run("--input", "kappa=k.npz", "-o", "u.bp")
    from adios2 import FileReader

    with FileReader("u.bp") as file:
        assert int(file.available_variables()["u"]["AvailableStepsCount"]) == 4


def test_the_distance_and_a_warning_are_printed(plate, capsys):
    x = plate.inputs[-4:].copy()
    x[1] *= 50.0
    np.savez("far.npz", kappa=x)
    run("--input", "kappa=far.npz", "-o", "u.npz")
    lines = capsys.readouterr().out.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("sample 1:"))
    assert "distance from the training inputs" in lines[first]
    assert lines[first + 1].startswith("  warning: outside the training range: kappa from ")
    main(["evaluate", "run"])  # writes inputs.npz
    capsys.readouterr()
    Path("run/config.toml").unlink()
    main(["predict", "run", "--data", "data.h5", "--input", "kappa=far.npz", "-o", "u.npz"])
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize("kind", ["triangle", "quadrilateral", "tetrahedron", "hexahedron"])
@pytest.mark.parametrize("degree", [1, 2])
def test_cells_are_in_the_order_of_vtk(kind, degree):
    nodes = len(_VTK[kind, degree][1])
    np.testing.assert_array_equal(np.argsort(vtk_order(kind, nodes)), _VTK[kind, degree][1])


@pytest.mark.parametrize(("kind", "degree"), [("quadrilateral", 2), ("tetrahedron", 1), ("hexahedron", 2)])
def test_vectors_numbers_cells_and_boundary_data_go_in_and_out(kind, degree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = mapped(box(kind, 2, degree), lambda x: (x[0] + 0.2 * x[1], *x[1:]))
    mesh = TaggedMesh(arrays, ALONE)
    t = np.linspace(1, 3, 12)[:, None]
    x = arrays.points
    q = np.stack([np.sin(t * x[:, k]) for k in range(x.shape[1])], axis=-1)
    u = np.stack([np.cos(t * x[:, 0]) + x[:, -1], t * x[:, 1]], axis=-1)
    c = t * np.arange(len(arrays.cells))
    data = spon.import_arrays(
        mesh, {"q": q, "c": c, "p": np.hstack([t, 2 * t])}, ("u", u), at={"p": "parameters"},
        boundary_data={"g": "left"},
    )  # fmt: skip
    write_run(tmp_path, data)
    file = to_meshio(arrays, ".vtu")
    wide = np.pad(q[5], ((0, 0), (0, 3 - x.shape[1])))
    blocks = [np.zeros(len(b.data)) for b in file.cells]
    blocks[0][:] = c[5]
    meshio.write("in.vtu", meshio.Mesh(file.points, file.cells, {"q": wide, "g": u[5]}, {"c": blocks}))
    number = float(t[5, 0])
    words = ["q=in.vtu", "c=in.vtu", "g=in.vtu", f"p={number!r},{2 * number!r}"]
    run("--input", *words, "-o", "u.npz")
    expected = predicted(data, data.inputs[5:6], data.shifts[5:6])
    found = np.load("u.npz")
    np.testing.assert_allclose(found["u"], expected, rtol=0, atol=1e-12)
    left = data.discretisation.boundary_dofs["left"]
    np.testing.assert_allclose(found["u"][:, left], data.outputs[5:6, left], rtol=0, atol=1e-14)
    run("--input", *words, "-o", "u.vtu")
    back = read_fields([Path("u.vtu")], ["u"], mesh)
    again = spon.import_arrays(mesh, {"c": c[:1]}, ("u", back.arrays["u"][..., :2]), at=back.at)
    np.testing.assert_allclose(again.outputs, expected, rtol=0, atol=1e-12)


def test_no_dolfinx_and_no_mpi_is_needed(plate):
    code = (
        "from spon.cli.main import main\nmain(['predict', 'run', '--input', 'kappa=k_1.vtu', '-o', 'u.vtu'])"
    )
    folder = str(Path.cwd())
    result = run_without(WITHOUT_FEM, f"import os\nos.chdir({folder!r})\n{code}")
    assert result.returncode == 0, result.stderr
    u = meshio.read("u.vtu")
    np.testing.assert_allclose(
        u.point_data["u"], predicted(plate, plate.inputs[-3:-2])[0], rtol=0, atol=1e-12
    )
    np.testing.assert_array_equal(u.points[:, :2], plate.discretisation.levels[0].points)


@pytest.mark.mpi
def test_a_nested_mesh_gets_the_same_function(plate, capsys):
    run("--input", "kappa=k.npz", "-o", "fine.npz", "--mesh", "fine.msh")
    found = np.load("fine.npz")
    hierarchy = on_square(3, 3)
    fine = hierarchy.prolongation(0) @ predicted(plate, plate.inputs[-4:]).T
    np.testing.assert_allclose(found["u"], fine.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["points"], hierarchy.finest.arrays.points, atol=1e-14)
    if WORLD.rank == 0:
        out = capsys.readouterr().out
        assert "predicted on the training mesh and interpolated to fine.msh (625 DoFs); 50 boundary" in out


def test_a_network_that_crosses_meshes_is_evaluated_there(problem, plate, capsys):
    with pytest.raises(SystemExit):
        run("--input", "kappa=k.npz", "-o", "u.npz", "--mesh", "data.h5")
    assert "belongs to " in capsys.readouterr().err
    d, refined = plate.discretisation, problem.refined()
    model = spon.OperatorNetwork(d, spon.Multigrid(d, widths=(4,), cycles=1), "log", centre=False)
    spon.train(model, plate, spon.Training(epochs=1))
    spon.save_model("run/model.pt", model, plate)
    kappa = np.stack([refined.sample(np.random.default_rng(k)) for k in range(2)])
    np.savez("k.npz", kappa=kappa)
    refined.discretisation.save("fine.h5")
    run("--input", "kappa=k.npz", "-o", "u.npz", "--mesh", "fine.h5")
    assert "evaluated on the mesh of fine.h5" in capsys.readouterr().out
    expected = model.eval().on(refined.discretisation).predict(kappa)
    np.testing.assert_allclose(np.load("u.npz")["u"], expected, rtol=0, atol=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--input k=k.npz -o u.npz", "there is no input 'k'; the network takes: kappa (P1 triangle)"),
        ("--input kappa=k.npz kappa=k.npy -o u.npz", "--input gives 'kappa' 2 times; allowed: once"),
        ("--input kappa=2.5 -o u.npz", "input 'kappa' is 2.5; allowed: a file, since it is a field"),
        ("--input kappa=absent.npz -o u.npz", "no such file: absent.npz"),
        ("--input kappa=data.h5 -o u.npz", "data.h5: samples cannot be read from '.h5'; allowed: .npz"),
        ("--input kappa=bad.npz -o u.npz", "input 'kappa': 4 values are not finite, the first in sample 0"),
        ("--input kappa=short.npz -o u.npz", "input 'kappa' of shape (4, 168) has 168 values in a sample; "),
        ("--input kappa=swapped.npz -o u.npz", "input 'kappa' of shape (169, 4) has 4 values in a sample; "),
        ("--input kappa=negative.npz -o u.npz", "the input must be positive (transform 'log')"),
        ("--input kappa=moved.vtu -o u.npz", "1 of 169 nodes of moved.vtu: no partner in the training mesh"),
        ("--input kappa=k.npz -o u.npz --samples 0,4", "sample 4; allowed: 0 to 3"),
        ("--input kappa=k.npz -o u.vtu", "u.vtu: 4 samples in a .vtu; allowed: one"),
        ("--input kappa=k.npz -o u.txt", "u.txt: unknown output format; allowed: .npz, .vtu"),
        ("--input kappa=k.npz -o absent/u.npz", "cannot write absent/u.npz: no such folder"),
        ("--input kappa=k.npz -o u.npz --mesh absent.msh", "absent.msh"),
        ("--input kappa=k.npz -o u.npz --mesh absent.h5", "no such file: absent.h5"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(plate, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        run(*arguments.split())
    assert stop.value.code == 2
    err = capsys.readouterr().err
    WORLD.Barrier()
    if WORLD.rank == 0:
        assert message in err
        assert err.startswith("spon: error: ")
        assert len(err.splitlines()) == 1
        assert not [p for p in Path.cwd().glob("u.*") if p.suffix != ".msh"]
    WORLD.Barrier()
