import json
from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from runs import write_run
from test_imports import WITHOUT_FEM, run_without

import spon
from spon.baselines import MeanOutput, PodRegression
from spon.cli.main import main
from spon.nn.input_range import InputRange

WORLD = MPI.COMM_WORLD


@pytest.fixture
def folder(dataset, shared_folder, monkeypatch):
    monkeypatch.chdir(shared_folder)
    if WORLD.rank == 0:
        write_run(shared_folder, replace(dataset, sizes=(14, 4, 6)), "log")
    WORLD.Barrier()
    yield shared_folder
    WORLD.Barrier()


def numbers(metrics):
    """Everything but wall times and versions."""
    return {k: v for k, v in metrics.items() if k not in ("seconds", "versions")}


@pytest.mark.mpi
def test_numbers_are_those_of_evaluate_on_any_number_of_ranks(folder, capsys):
    main(["evaluate", "run"])
    WORLD.Barrier()
    out = capsys.readouterr().out
    assert (out == "") == (WORLD.rank > 0)
    found = json.loads((folder / "run" / "metrics.json").read_text())
    data = spon.Dataset.load("data.h5")
    train, _, test = data.parts()
    model = spon.load_model("run/model.pt", data.discretisation)
    baselines = {"pod_regression": PodRegression(train, True), "mean_output": MeanOutput(train)}
    expected = spon.evaluate(model, test, baselines)
    for name, value in expected.items():
        if name != "baselines":
            assert found[name] == pytest.approx(value, rel=1e-10)
    for name, errors in expected["baselines"].items():
        for norm, value in errors.items():
            assert found["baselines"][name][norm] == pytest.approx(value, rel=1e-10)
    assert found["boundary_error"]["max"] == 0.0
    assert set(found["samples"]) == {"best", "median", "worst"}
    assert set(found["samples"].values()) <= set(test.numbers.tolist())
    assert found["part"] == {"name": "test", "samples": 6, "training_samples": 14}
    assert found["seconds"]["fe_solve"] == pytest.approx(np.median(test.seconds))
    assert found["seconds"]["training"] == 3.0
    assert found["fingerprint"] == data.discretisation.fingerprint
    outside = InputRange.of(model, train).distance(model, test.inputs).outside
    assert found["outside"] == test.numbers[outside].tolist()
    assert set(found["versions"]) >= {"spon", "torch", "numpy", "python", "device"}
    if WORLD.rank == 0:
        assert f"{found['relative_l2']['mean']:.3%}" in out
        assert "relative error on 6 test samples" in out
    html = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert f"{found['relative_h1']['mean']:.3%}" in html


@pytest.mark.mpi
def test_another_part_data_set_and_folder(folder, capsys):
    main(["evaluate", "run/model.pt", "--data", "data.h5", "--part", "validation", "-o", "new/results"])
    WORLD.Barrier()
    found = json.loads((folder / "new/results/metrics.json").read_text())
    assert found["part"]["name"] == "validation"
    assert found["part"]["samples"] == 4
    assert not (folder / "run/metrics.json").exists()
    assert {p.name for p in (folder / "new/results").iterdir()} == {
        "inputs.npz",
        "metrics.json",
        "report.html",
    }


def test_no_dolfinx_and_no_mpi_is_needed(folder):
    result = run_without(
        WITHOUT_FEM, f"from spon.cli.main import main\nmain(['evaluate', {str(folder / 'run')!r}])"
    )
    assert result.returncode == 0, result.stderr
    assert "report.html" in result.stdout
    assert numbers(json.loads((folder / "run/metrics.json").read_text()))["relative_l2"]["mean"] > 0


def damaged(folder, what):
    if WORLD.rank > 0:
        return
    run = folder / "run"
    if what == "no model":
        (run / "model.pt").unlink()
    elif what == "bad model":
        (run / "model.pt").write_bytes(b"nothing")
    elif what == "bad config":
        (run / "config.toml").write_text("[data\n")
    elif what == "several":
        (run / "config.toml").write_text('[data]\npath = ["a.h5", "b.h5"]\n')
    elif what == "no data":
        (folder / "data.h5").unlink()
    elif what == "no config":
        (run / "config.toml").unlink()
    elif what == "zero":
        data = spon.Dataset.load(folder / "data.h5")
        data.outputs[-2:] = 0.0
        data.save(folder / "data.h5")


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        ("", ["absent"], "no such run: absent; allowed: a folder that spon train made"),
        ("no model", ["run"], "run: no model.pt; allowed"),
        ("bad model", ["run"], "run/model.pt: not a readable checkpoint"),
        ("bad config", ["run"], "run/config.toml: not readable"),
        ("several", ["run"], "run was trained on 2 data sets: a.h5, b.h5; allowed: --data with one of them"),
        ("no data", ["run"], "run/config.toml: no such data set: ../data.h5; allowed: --data FILE"),
        ("no config", ["run"], "run does not say which data it was trained on; allowed: --data FILE"),
        ("", ["run", "--data", "absent.h5"], "no such file: absent.h5"),
        ("", ["run", "--device", "tpu"], "device 'tpu'; allowed: cpu, cuda"),
        ("", ["run", "-o", "data.h5"], "cannot write into the folder data.h5"),
        ("zero", ["run"], "the relative error of sample 22 in the l2 norm is inf"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder, capsys, damage, arguments, message):
    damaged(folder, damage)
    WORLD.Barrier()
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    if WORLD.rank == 0:
        assert err.startswith(f"spon: error: {message}")
        assert len(err.splitlines()) == 1
        assert not (folder / "run/metrics.json").exists()
        assert not (folder / "run/report.html").exists()


def test_a_log_that_was_cut_off_is_read_as_far_as_it_goes(folder):
    log = folder / "run/log.csv"
    log.write_text(log.read_text() + "7,3")
    main(["evaluate", "run"])
    found = json.loads((folder / "run/metrics.json").read_text())
    assert found["seconds"]["training"] == 3.0


def test_a_problem_gives_the_floor(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    darcy = spon.load_problem(spon.find_problem("darcy.py")).Darcy
    problem = darcy.from_mesh(group=MPI.COMM_SELF, refinements=0)
    write_run(tmp_path, replace(spon.generate(problem, 16, seed=0), sizes=(12, 2, 2)))
    main(["evaluate", "run", "--problem", "darcy", "--refinements", "0"])
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 < found["fe_floor_h1"]["mean"] < found["fe_solve_h1"]["mean"] < 0.5
    assert "FE floor (best in this space)" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(SystemExit):
        main(["evaluate", "run", "--problem", "darcy", "--refinements", "1"])
    assert "the data set belongs to another discretisation" in capsys.readouterr().err
