import meshio
import numpy as np
import pytest
from conftest import square
from mpi4py import MPI

import spon
from spon.cli.main import main
from spon.fem.meshio_mesh import to_meshio
from spon.fem.writers import write_arrays

WORLD = MPI.COMM_WORLD
MESH = square(4)
X, Y = MESH.points.T


def run(words):
    main(["import", *words.split()])


def answer(arguments, capsys):
    """Run a command that is refused; its message, on rank 0."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    if WORLD.rank > 0:
        assert err == ""
        return ""
    return err


@pytest.fixture
def folder(shared_folder, monkeypatch):
    """A mesh, arrays and fields of six samples, seen by all ranks."""
    monkeypatch.chdir(shared_folder)
    if WORLD.rank == 0:
        write_arrays("square.msh", MESH)
        a = np.linspace(1, 2, 12)[:, None]
        arrays = {
            "kappa": a * (1 + X),
            "c": a * np.arange(32.0),
            "load": a[:, 0],
            "u": a * X * (1 - X) * np.cos(Y),
            "nan": a * np.where(X == 1, np.nan, 1),
            "complex": 1j * a * X,
            "grid": (a * X).reshape(-1, 5, 5),
        }
        np.savez("a.npz", **arrays)
        np.savez("objects.npz", u=np.array([None, 1]), kappa=arrays["kappa"])
        np.save("w.npy", arrays["u"])
        mesh = to_meshio(MESH, ".vtu")
        turn = np.random.default_rng(0).permutation(len(X))
        points = np.empty_like(mesh.points)
        points[turn] = mesh.points
        for k in range(12):  # 2 comes before 10
            u = np.empty(len(X))
            u[turn] = arrays["u"][k]
            data = {"c": [arrays["c"][k]]}
            cells = [("triangle", turn[MESH.cells])]
            meshio.write(f"run_{k}.vtu", meshio.Mesh(points, cells, {"u": u}, data))
    WORLD.Barrier()
    yield shared_folder
    WORLD.Barrier()


@pytest.mark.mpi
def test_arrays_become_a_data_set_on_any_number_of_ranks(folder, capsys):
    run(
        "a.npz w.npy -o d.h5 --mesh square.msh --input kappa c load w --output u --dirichlet left right "
        "--boundary-data g=top --units kappa=W/m/K u=K --split .5,.25 --levels 1"
    )
    out = capsys.readouterr().out
    assert (out == "") == (WORLD.rank > 0)
    d, arrays = spon.Dataset.load("d.h5"), np.load("a.npz")
    np.testing.assert_array_equal(d.input("kappa"), arrays["kappa"])
    np.testing.assert_array_equal(d.input("c"), arrays["c"])
    np.testing.assert_array_equal(d.input("load"), arrays["load"][:, None])
    np.testing.assert_allclose(d.input("w"), d.outputs, atol=1e-15)
    np.testing.assert_allclose(d.outputs, arrays["u"], atol=1e-15)
    assert d.sizes == (6, 3)
    assert dict(d.units) == {"kappa": "W/m/K", "u": "K"}
    assert dict(d.boundary_data) == {"g": "top"}
    assert len(d.discretisation.levels) == 2
    if WORLD.rank == 0:
        assert "12, split 6 + 3 (3 in no part); not generated" in out
        assert "u [K]: P1 triangle, 25 DoFs" in out


@pytest.mark.mpi
def test_files_are_samples_in_the_order_of_their_numbers(folder, capsys):
    run("run_*.vtu -o d.h5 --mesh square.msh --input c --output u --dirichlet left")
    out = capsys.readouterr().out
    d, arrays = spon.Dataset.load("d.h5"), np.load("a.npz")
    np.testing.assert_allclose(d.outputs, arrays["u"], atol=1e-15)
    np.testing.assert_array_equal(d.input("c"), arrays["c"])
    if WORLD.rank == 0:
        assert out.startswith("run_0.vtu: nodes are in another order than in square.msh; matched by coord")
    WORLD.Barrier()
    run("run_10.vtu run_2.vtu -o e.h5 --input c --output u")  # the mesh of the files
    e = spon.Dataset.load("e.h5")
    assert not capsys.readouterr().err
    norms = [
        np.einsum("si,si->s", data.outputs, (data.discretisation.output.mass @ data.outputs.T).T)
        for data in (d[np.array([10, 2])], e)
    ]
    np.testing.assert_allclose(*norms, rtol=1e-12)


@pytest.mark.mpi
def test_grids_and_refined_meshes(folder):
    run("a.npz --grid --box=-2,2,0,1 -o g.h5 --input load --output grid")
    g = spon.Dataset.load("g.h5")
    points = g.discretisation.levels[0].points
    np.testing.assert_allclose(g.outputs, np.outer(g.input("load"), (points[:, 0] + 2) / 4), atol=1e-15)
    assert [len(level.points) for level in g.discretisation.levels] == [25, 9]
    if WORLD.rank == 0:
        write_arrays("coarse.msh", square(2))
        fine = spon.Hierarchy.uniform(spon.read_mesh("coarse.msh", MPI.COMM_SELF), 1).finest.arrays
        np.savez("fine.npz", f=fine.points[None, :, 0], u=fine.points[None, :, 1])
    WORLD.Barrier()
    run("fine.npz -o f.h5 --mesh coarse.msh --refinements 1 --input f --output u")
    f = spon.Dataset.load("f.h5")
    assert len(f.discretisation.levels) == 2
    np.testing.assert_allclose(f.outputs[0], f.discretisation.levels[0].points[:, 1], atol=1e-15)


BASE = "--mesh square.msh -o x.h5 --output u"


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"absent.npz {BASE} --input kappa", "no such file: absent.npz"),
        (f"absent_*.vtu {BASE} --input kappa", "no such file: absent_*.vtu"),
        (f"square.msh {BASE} --input kappa", "square.msh: samples cannot be read from '.msh'; allowed: .npz"),
        (f"a.npz run_0.vtu {BASE} --input kappa", "arrays of numpy and fields on meshes in one call"),
        (f"a.npz {BASE} --input q", "no array 'q' in a.npz; there are: 'kappa', 'c', 'load', 'u', "),
        (f"a.npz a.npz {BASE} --input kappa", "a.npz: array 'kappa' is in another file too"),
        (f"a.npz {BASE} --input nan", "input 'nan': 60 values are not finite, the first in sample 0"),
        (f"a.npz {BASE} --input complex", "input 'complex' has values of type complex128; allowed: real"),
        (f"objects.npz {BASE} --input kappa", "objects.npz: not readable by numpy: it holds pickled objects"),
        (
            f"a.npz {BASE} --input kappa --dirichlet top",
            "the output on boundary 'top' differs between the sam",
        ),
        (f"a.npz {BASE} --input kappa --dirichlet wall", "boundary 'wall' not found in square.msh; it has: "),
        (f"a.npz {BASE} c --input kappa", "--output u c: 2 outputs; allowed: one"),
        (
            f"a.npz {BASE} --input kappa --split 10,5",
            "split 10, 5 of 12 samples is 10, 5; allowed: one sample",
        ),
        (f"a.npz {BASE} --input grid", "input 'grid' of shape (12, 5, 5) has 5 values in a sample"),
        ("a.npz -o x.h5 --input kappa --output u", "no mesh for the arrays; allowed: --mesh FILE, or --grid"),
        (f"a.npz {BASE} --input kappa --grid", "--mesh with --grid, which makes its own mesh"),
        (f"a.npz {BASE} --input kappa --box 0,1,0,1", "--box without --grid"),
        ("run_0.vtu --grid -o x.h5 --input c --output u", "--grid with run_0.vtu; allowed: .npz, .npy"),
        ("run_0.vtu -o x.h5 --input c --output p", "run_0.vtu: no array 'p'; it has: 'u', 'c'"),
        ("run_0.vtu -o x.h5 --input c --output u --refinements 1", "--refinements without --mesh"),
        (
            "a.npz -o no/x.h5 --mesh square.msh --input kappa --output u",
            "cannot write no/x.h5: no such folder",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_on_all_ranks(folder, capsys, arguments, message):
    err = answer(["import", *arguments.split()], capsys)
    if WORLD.rank == 0:
        assert err.startswith(f"spon: error: {message}")
        assert len(err.splitlines()) == 1
        assert not (folder / "x.h5").exists()


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--units kappa", "argument --units: 'kappa'; allowed: NAME=VALUE"),
        ("--split a,b", "argument --split: 'a,b'; allowed: numbers with commas between them"),
        ("--levels 1 --refinements 1", "argument --refinements: not allowed with argument --levels"),
    ],
)
def test_words_that_cannot_be_read(capsys, arguments, message):
    err = answer(["import", "a.npz", "-o", "x.h5", "--output", "u", *arguments.split()], capsys)
    if WORLD.rank == 0:
        assert message in err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["import", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for option in ("--mesh", "--dirichlet", "--boundary-data", "--split", "--grid", "--box", "--centred"):
        assert option in out
