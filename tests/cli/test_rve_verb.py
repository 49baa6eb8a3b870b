"""`spon rve solve`, and the files of laws and fields that go with it."""

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
