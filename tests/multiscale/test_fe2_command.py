"""`spon fe2 run`: a macroscopic problem from a file."""

import pytest
from macros import SOFT, WORLD, Partial

import spon
from spon.cli.main import main

MACRO = """
import spon

def macro(comm):
    mesh = spon.read_mesh(spon.find_mesh("cook.geo"), comm)
    space = spon.lagrange(mesh, degree=1, components=2)
    return spon.TwoScaleProblem(mesh, space, {"left": 0.0}, {"right": (0.0, 5.0)})
"""


@pytest.mark.mpi
def test_the_command_runs_a_macroscopic_problem(shared_folder, monkeypatch, capsys):
    file = shared_folder / "macro.py"
    if WORLD.rank == 0:
        file.write_text(MACRO)
    WORLD.barrier()
    monkeypatch.setattr(spon, "load_surrogate", lambda path: Partial(limit=0.02), raising=False)
    monkeypatch.setattr(spon, "FEModel", lambda rve: spon.MaterialModel(SOFT), raising=False)
    monkeypatch.setattr(
        spon, "RVE", type("RVE", (), {"load": staticmethod(lambda path: path)}), raising=False
    )
    target = shared_folder / "out.vtu"
    command = ["fe2", "run", str(file), "--surrogate", "s.h5"]
    with_cell = [*command, "--rve", "r.h5", "--fallback", "fe", "--threshold", "0.015", "-o", str(target)]
    main(with_cell)
    out = capsys.readouterr().out
    if WORLD.rank == 0:
        assert "224 cells, 510 DoFs, 896 points" in out
        assert "load 1: " in out
        assert "fallback at" in out
    WORLD.barrier()
    assert target.is_file()
    cell = [*command[:3], "--rve", "r.h5"]
    for bad in (
        command[:3],
        command,
        [*command, "--threshold", "1"],
        [*command, "--rve", "r.h5"],
        [*command, "--fallback", "fe"],
        [*command, "--local", "1,1", str(shared_folder / "local.vtu")],
        [*cell, "--local", "1,1,1", str(shared_folder / "local.vtu")],
        [*cell, "--local", "1,1", str(shared_folder / "local.bp")],
    ):
        with pytest.raises(SystemExit):
            main(bad)
    if WORLD.rank == 0:
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 8
        assert all(line.startswith("spon: error: ") for line in errors)
