"""`spon rve solve`, and the files of laws and fields that go with it."""

import json
import shutil
import tempfile
from pathlib import Path

import meshio
import numpy as np
import pytest
import torch
from mpi4py import MPI

import spon
from spon.cli.main import main

LAWS = """
[matrix]
law = "Deviatoric"
K = 4780
alpha1 = 50.0
alpha2 = 0.06

[inclusion]
law = "LinearElastic"
K = 43452.381
G = 29918.0328
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("rve")
    spon.fibre_rve(path / "cell.msh", 0.2, 1, 0.2, size=0.15)
    (path / "laws.toml").write_text(LAWS)
    return path


def run(folder, *arguments):
    main(["rve", "solve", str(folder / "cell.msh"), "--laws", str(folder / "laws.toml"), *arguments])


def test_it_prints_what_the_library_finds(folder, capsys):
    strain = torch.tensor([[0.01, -0.02, 0.03]], dtype=torch.float64)
    run(folder, "--strain=0.01,-0.02,0.03", "-o", str(folder / "local.vtu"))
    text = capsys.readouterr().out.splitlines()
    rve = spon.read_rve(folder / "cell.msh", spon.read_laws(folder / "laws.toml"), comm=MPI.COMM_SELF)
    found = rve.solve(strain)
    printed = [float(word) for word in text[1].split()[2::2]]
    np.testing.assert_allclose(printed, found.stress[0], rtol=1e-5)
    rows = [[float(word) for word in line.removeprefix("tangent").split()] for line in text[2:5]]
    np.testing.assert_allclose(
        rows, found.tangent[0], rtol=1e-5, atol=1e-5 * float(found.tangent.abs().max())
    )
    fields = meshio.read(folder / "local.vtu")
    areas = rve.cell_weights.sum(axis=1)
    for number, name in enumerate(("xx", "yy", "xy")):
        mean = areas @ fields.cell_data[f"stress_{name}"][0].ravel()
        assert mean == pytest.approx(float(found.stress[0, number]), rel=1e-8)
        mean = areas @ fields.cell_data[f"strain_{name}"][0].ravel()
        assert mean == pytest.approx(float(strain[0, number]), rel=1e-8)
    x, u = fields.points[:, :2], fields.point_data["displacement"][:, :2]
    low, high = (np.flatnonzero(np.hypot(*(x - side).T) < 1e-9) for side in (-0.5, 0.5))
    np.testing.assert_allclose(u[high[0]] - u[low[0]], [0.01 + 0.015, 0.015 - 0.02], atol=1e-12)


def test_a_stored_cell_brings_its_laws(folder, capsys):
    rve = spon.read_rve(folder / "cell.msh", spon.read_laws(folder / "laws.toml"), comm=MPI.COMM_SELF)
    rve.save(folder / "cell.h5")
    run(folder, "--strain=0.01,0,0")
    expected = capsys.readouterr().out.splitlines()[:5]
    main(["rve", "solve", str(folder / "cell.h5"), "--strain=0.01,0,0"])
    assert capsys.readouterr().out.splitlines()[:5] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strain=0.1,0"], "--strain 0.1,0: 2 numbers; allowed: 3 (plane strain), 6"),
        (["--strain=a,b,c"], "--strain a,b,c: allowed: numbers"),
        (["--strain=0,0,0,0,0,0.1"], "a strain of 6 components; allowed: 3"),
        (["--strain=0.01,0,0", "--laws", "none.toml"], "no such file: none.toml"),
        (["--strain=0.01,0,0", "-o", "local.bp"], "local.bp: unknown output format; allowed: .vtu"),
    ],
)
def test_errors_are_one_line(folder, arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(folder, *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[matrix", "is no TOML"),
        ("matrix = 3", r"'matrix' has no law; allowed: \[matrix\] with law"),
        ('[matrix]\nlaw = "Cheese"', r"\[matrix\] no law 'Cheese'; allowed: LinearElastic, Deviatoric"),
        ('[matrix]\nlaw = "LinearElastic"\nK = "a"\nG = 1', r"\[matrix\] K = 'a'; allowed: a number"),
        ('[matrix]\nlaw = "LinearElastic"\nK = 1', r"\[matrix\] LinearElastic: parameters K; allowed: K, G"),
    ],
)
def test_files_of_laws_that_are_refused(text, message, tmp_path):
    path = tmp_path / "laws.toml"
    path.write_text(text)
    with pytest.raises(spon.SponError, match=message):
        spon.read_laws(path)


@pytest.fixture(scope="module")
def solved(folder):
    """Load cases to learn from, and others."""
    mesh, laws = str(folder / "cell.msh"), str(folder / "laws.toml")
    for name, seed in (("learn", "0"), ("test", "1")):
        arguments = ["--laws", laws, "-n", "10", "--seed", seed, "-o", str(folder / f"{name}.h5")]
        main(["rve", "snapshots", mesh, *arguments])
    return folder / "learn.h5", folder / "test.h5"


def test_snapshots_carry_their_cell(folder, solved, capsys):
    rve, found = spon.RVE.load(solved[0]), spon.Snapshots.load(solved[0])
    assert np.array_equal(found.strains.numpy(), spon.latin_hypercube(10, 3, 0.04, 0))
    others = spon.Snapshots.load(solved[1])
    assert np.array_equal(others.strains.numpy(), spon.latin_hypercube(10, 3, 0.04, 1))
    exact = rve.solve(found.strains[:1])
    np.testing.assert_allclose(found.macro_stresses[:1], exact.stress, rtol=1e-9)
    np.testing.assert_allclose(rve.average(found.stresses), found.macro_stresses, rtol=1e-9)
    again = folder / "again.h5"
    main(["rve", "snapshots", str(solved[0]), "-n", "3", "--limit", "0.01", "-o", str(again)])
    text = capsys.readouterr().out
    assert "3 load cases within 0.01, 0 failed" in text
    assert spon.Snapshots.load(again).strains.abs().max() <= 0.01


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ReducedRVE", ["--modes", "6"]),
        ("ReducedRVE", ["--energy", "1e-4"]),
        ("PolynomialPotential", ["--modes", "4"]),
        ("EquiNO", ["--modes", "6", "--steps", "20", "--refinements", "2"]),
        ("VariationalDeepONet", ["--modes", "4", "--steps", "2", "--refinements", "2"]),
    ],
)
def test_train_and_evaluate(folder, solved, name, arguments, capsys):
    target = folder / "surrogate.pt"
    main(["rve", "train", str(solved[0]), "--surrogate", name, "-o", str(target), *arguments])
    assert f"surrogate {name} of 8 load cases, 2 held back" in capsys.readouterr().out
    surrogate = spon.load_surrogate(target)
    assert type(surrogate).__name__ == name
    main(["rve", "evaluate", str(target), str(solved[1])])
    text = capsys.readouterr().out
    assert "macroscopic stress" in text
    errors = json.loads(target.with_suffix(".json").read_text())
    unseen = spon.Snapshots.load(solved[1])
    off = (surrogate.respond(unseen.strains).stress - unseen.macro_stresses).norm(dim=0)
    np.testing.assert_allclose(errors["macro"], off / unseen.macro_stresses.norm(dim=0), rtol=1e-12)
    if name == "ReducedRVE":
        assert max(errors["macro"]) < 0.05
        assert max(errors["local"]) < 0.2
        assert errors["asymmetry"] < 1e-12
        assert errors["failed"] == 0


def test_evaluation_of_exact_answers_finds_no_error(solved):
    rve, cases = spon.RVE.load(solved[1]), spon.Snapshots.load(solved[1])

    class Exact(spon.Surrogate):
        def respond_within(self, strain):
            none = torch.zeros(len(strain))
            return spon.Response(
                cases.macro_stresses * self.scale, cases.tangents * self.scale, None, none.bool()
            )

        def local(self, strain):
            places = [int((cases.strains == one).all(1).nonzero()) for one in strain]
            return None, cases.stresses[places] * self.scale

        content = from_content = None

    model = Exact(torch.tensor([[-0.05] * 3, [0.05] * 3]).double())
    for scale, off in ((1.0, 0.0), (1.01, 0.01)):
        model.scale = scale
        errors = spon.evaluate_surrogate(model, rve, cases)
        for name in ("macro", "local", "tangent", "shear_mean", "shear_max"):
            np.testing.assert_allclose(getattr(errors, name), off, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--surrogate", "Cheese"], "a surrogate 'Cheese'; allowed: ReducedRVE, NeuralGalerkin"),
        (["--steps", "3"], "NeuralGalerkin takes no --steps; allowed: --modes, --energy, --points, --seed"),
        (["--modes", "3", "--energy", "0.1"], "--modes and --energy both"),
        (["--hold-back", "10"], "--hold-back 10; allowed: 0 to 9"),
        (["--modes", "99"], "99 modes of displacement fluctuations; allowed: 32 at most"),
    ],
)
def test_training_that_cannot_be_is_refused_in_one_line(folder, solved, arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["rve", "train", str(solved[0]), "-o", str(folder / "none.pt"), *arguments])
    assert caught.value.code == 2
    found = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in found
    assert not (folder / "none.pt").exists()


@pytest.mark.mpi
def test_snapshots_are_the_same_on_all_ranks():
    comm = MPI.COMM_WORLD
    folder = Path(comm.bcast(tempfile.mkdtemp() if comm.rank == 0 else None))
    if comm.rank == 0:
        spon.fibre_rve(folder / "cell.msh", 0.2, 1, 0.2, size=0.15)
        (folder / "laws.toml").write_text(LAWS)
    comm.barrier()
    output = folder / "cases.h5"
    mesh, laws = str(folder / "cell.msh"), str(folder / "laws.toml")
    main(["rve", "snapshots", mesh, "--laws", laws, "-n", "5", "-o", str(output)])
    comm.barrier()
    found, rve = spon.Snapshots.load(output), spon.RVE.load(output)
    assert np.array_equal(found.strains.numpy(), spon.latin_hypercube(5, 3, 0.04, 0))
    np.testing.assert_allclose(found.macro_stresses, rve.solve(found.strains).stress, rtol=1e-9)
    with pytest.raises(SystemExit):
        main(["rve", "snapshots", mesh, "--laws", laws, "-n", "0", "-o", str(output)])
    comm.barrier()
    if comm.rank == 0:
        shutil.rmtree(folder)
