"""`spon train`: run folders, resumption after kill -9, mpirun and torchrun, and one line for each mistake."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from mpi4py import MPI
from test_imports import PACKAGE, WITHOUT_FEM, run_without

import spon
from spon.cli.main import main
from spon.evaluation import relative_errors
from spon.training.config import RunConfig

WORLD = MPI.COMM_WORLD
SMALL = ["--set", "processor.widths=4,6", "processor.cycles=1", "training.batch_size=6"]
FILES = {"config.toml", "log.csv", "model.pt", "checkpoint.pt", "versions.json", "inputs.npz"}


@pytest.fixture(scope="module")
def data_file(dataset, tmp_path_factory):
    folder = WORLD.bcast(tmp_path_factory.mktemp("data"), root=0)
    path = folder / "square.h5"
    if WORLD.rank == 0:
        replace(dataset, sizes=(12, 6, 6)).save(path)
    WORLD.Barrier()
    return path


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)["state"]


def same(folder, other):
    a, b = weights(folder), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def start(command, **variables):
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PACKAGE.parent,
        env=environment,
    )


@pytest.mark.mpi
def test_a_run_folder_has_all_of_a_run(data_file, shared_folder, capsys):
    folder = shared_folder / "run"
    command = ["train", str(data_file), "-o", str(folder), "--epochs", "2", "--dtype", "float64", *SMALL]
    main(command)
    printed = capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == FILES
    data = spon.Dataset.load(data_file)
    validation = data.parts()[1]
    model = spon.load_model(folder / "model.pt")
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert list(rows[0]) == [
        "epoch", "step", "seconds", "learning_rate", "loss", "validation_l2", "validation_h1", "best",
    ]  # fmt: skip
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "2"), ("2", "4")]
    best = [row for row in rows if row["best"] == "1"][-1]
    for norm in ("l2", "h1"):
        errors = relative_errors(validation, model.predict(validation.inputs), norm)
        assert float(best[f"validation_{norm}"]) == pytest.approx(errors.mean(), rel=1e-9)
    config = RunConfig.read(folder / "config.toml")
    assert config.model == {"processor": "Multigrid", "transform": "log"}
    assert config.processor["coefficient"]
    assert config.processor["dtype"] == "float64"
    assert config.data["samples"] == [[12], [6]]
    assert spon.read_model(folder / "model.pt")["data"]["output_name"] == data.output_name
    assert json.loads((folder / "versions.json").read_text())["ranks"] == WORLD.size
    if WORLD.rank == 0:
        assert f"best      after epoch {best['epoch']} of 2" in printed
        assert str(folder / "model.pt") in printed
    before = (folder / "model.pt").stat().st_mtime_ns
    main(command)  # nothing is left to do
    assert (folder / "model.pt").stat().st_mtime_ns == before
    if WORLD.rank == 0:
        assert "finished  after 2 epochs, 4 steps" in capsys.readouterr().out
    for more, message in (
        (["--epochs", "3"], "training.epochs = 2, not 3 (--overwrite discards it)"),
        (
            ["--loss", "l2", "--seed", "4"],
            "processor.seed = 0, not 4; training.loss = h1, not l2; training.se",
        ),
    ):
        with pytest.raises(SystemExit):
            main([*command, *more])
        err = capsys.readouterr().err
        assert WORLD.rank > 0 or message in err
    main([*command, "--epochs", "1", "--overwrite"])
    assert len((folder / "log.csv").read_text().splitlines()) == 2


def test_linear_equations_give_the_start_unless_told_otherwise(dataset, data_file, tmp_path, capsys):
    command = ["train", str(data_file), "--epochs", "1", *SMALL]
    main([*command, "-o", str(tmp_path / "start")])
    line = (
        "equations diffusion, used: the network starts from 1 multigrid cycle with each sample's own operator"
    )
    assert line in capsys.readouterr().out
    assert RunConfig.read(tmp_path / "start" / "config.toml").processor["guess"] == "start"
    bare = tmp_path / "bare.h5"
    replace(spon.Dataset.load(data_file), physics=None).save(bare)
    main(["train", str(bare), *command[2:], "-o", str(tmp_path / "bare")])
    main([*command, "-o", str(tmp_path / "none"), "--set", "processor.guess=none"])
    assert "used: the network" not in capsys.readouterr().out
    assert same(tmp_path / "none", tmp_path / "bare")
    test = dataset.inputs[-6:], dataset.outputs[-6:]
    errors = [
        np.linalg.norm(spon.load_model(tmp_path / name / "model.pt").predict(test[0]) - test[1])
        for name in ("start", "none")
    ]
    assert errors[0] < 0.5 * errors[1]


def test_killed_and_continued_is_the_same_as_not_killed(data_file, tmp_path):
    arguments = [*SMALL, "training.checkpoint_seconds=0.001", "--epochs", "12"]
    main(["train", str(data_file), "-o", str(tmp_path / "whole"), *arguments])
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "spon", "train", str(data_file), "-o", str(folder), *arguments]
    process = start(command)
    while not (folder / "log.csv").exists() or len((folder / "log.csv").read_text().splitlines()) < 3:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert 0 < state["position"]["step"] < 24
    main(command[3:])
    assert same(folder, tmp_path / "whole")
    logs = [list(csv.DictReader((f / "log.csv").open())) for f in (folder, tmp_path / "whole")]
    for row in (*logs[0], *logs[1]):
        del row["seconds"]
    assert logs[0] == logs[1]
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == FILES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_at_a_checkpoint(data_file, tmp_path, capsys, monkeypatch, number):
    command = ["train", str(data_file), "-o", str(tmp_path / "run"), "--epochs", "2", *SMALL]
    step = spon.Trainer._step

    def interrupted(trainer, batch):
        step(trainer, batch)
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(spon.Trainer, "_step", interrupted)
        with pytest.raises(SystemExit) as stop:
            main(command)
    assert stop.value.code == 128 + number
    assert "interrupted after epoch 0, step 1; the same command goes on" in capsys.readouterr().err
    main(command)
    assert "goes on   after 0 epochs, 1 steps" in capsys.readouterr().out


def test_torchrun_gives_the_same_to_the_last_bit(data_file, tmp_path):
    """The store in a file: Debian's torch has no libuv, which torchrun's own store wants."""
    arguments = ["--epochs", "2", *SMALL]
    main(["train", str(data_file), "-o", str(tmp_path / "alone"), *arguments])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file"]
    torchrun += ["--rdzv-endpoint", str(tmp_path / "store"), "-m", "spon", "train", str(data_file)]
    variables = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    process = start([*torchrun, "-o", str(tmp_path / "two"), *arguments], **variables)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert "ranks: 2" in output
    assert output.count("data      12 training") == 1  # one of them speaks
    assert same(tmp_path / "two", tmp_path / "alone")
    shutil.rmtree(tmp_path / "two")
    torchrun[torchrun.index(str(tmp_path / "store"))] = str(tmp_path / "another")
    bad = start([*torchrun, "-o", str(tmp_path / "two"), "--loss", "max"], **variables)
    output = bad.communicate(timeout=600)[0]
    assert bad.returncode != 0
    assert output.count("spon: error: loss 'max'; allowed: l2, h1, energy") == 1


def test_training_needs_neither_dolfinx_nor_mpi(data_file, tmp_path):
    folder = tmp_path / "run"
    arguments = ["train", str(data_file), "-o", str(folder), "--max-seconds", "1", *SMALL]
    done = run_without(WITHOUT_FEM, f"from spon.cli.main import main\nmain({arguments!r})")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch")]
    assert len(lines) == len((folder / "log.csv").read_text().splitlines()) - 1  # one for each validation
    assert np.isfinite(
        spon.load_model(folder / "model.pt").predict(spon.Dataset.load(data_file).inputs)
    ).all()


def test_a_configuration_file_and_options_that_change_it(data_file, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    main(["train", str(data_file), "-o", str(first), "--max-seconds", "0.3", *SMALL])
    config = str(first / "config.toml")
    main(["train", str(data_file), "-o", str(second), "-c", config, "--epochs", "1", "--loss", "l2"])
    a, b = (RunConfig.read(folder / "config.toml") for folder in (first, second))
    assert a.differences(b) == [
        "training.epochs = 40, not 1",
        "training.loss = h1, not l2",
        "training.max_seconds = 0.3, not none",
    ]


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "abacus"], "device 'abacus'; allowed: cpu, cuda"),
        (["--set", "training.lr=3"], "unknown setting 'training.lr'; allowed: epochs"),
        (["--set", "lr=3"], "'lr=3'; allowed: TABLE.KEY=VALUE"),
        (["--processor", "Wavelet"], "processor 'Wavelet'; allowed: "),
        (["--dtype", "float16"], "dtype float16; allowed: float32, float64"),
        (["--epochs", "0"], "epochs = 0; allowed: > 0"),
        (["--loss", "energy"], "norm 'energy'; allowed: l2, h1"),
        (["-c", "absent.toml"], "cannot read absent.toml"),
        (["-o", "/proc/run"], "cannot write into the folder /proc/run"),
        (["--set", "training.learning_rate=1e30"], "the training loss became nan in epoch 1, step "),
    ],
)
def test_mistakes_are_answered_in_one_line_on_all_ranks(data_file, shared_folder, capsys, arguments, message):
    given = ["train", str(data_file), "-o", str(shared_folder / "run"), "--epochs", "1"]
    with pytest.raises(SystemExit) as stop:
        main([*given, *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    if WORLD.rank == 0:
        lines = [line for line in err.splitlines() if "error" in line]
        assert len(lines) == 1
        assert lines[0].startswith("spon: error: ")
        assert message in lines[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_in_one_line(data_file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", str(data_file), "-o", str(tmp_path / "run"), "--device", "cuda"])
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"spon: error: device 'cuda', but torch \S+ sees no CUDA GPU; allowed: cpu", line)
    assert not (tmp_path / "run").exists()


def test_damaged_files_are_named(data_file, tmp_path, capsys):
    folder = tmp_path / "run"
    command = ["train", str(data_file), "-o", str(folder), "--epochs", "1", *SMALL]
    main(command)
    whole = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit):
        main(command)
    assert "checkpoint.pt: not a readable checkpoint" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", str(tmp_path / "absent.h5"), "-o", str(folder)])
    assert "no such file" in capsys.readouterr().err


def test_the_default_processor_knows_the_equations_where_there_are_some(data_file, tmp_path, capsys):
    bare = tmp_path / "bare.h5"
    data = spon.Dataset.load(data_file)
    replace(data, physics=None).save(bare)
    free = ["training.physics_loss=potential", "training.label_weight=0"]
    for path, settings, name, reason in (
        (data_file, [], "LearnedCorrection", "linear equations in the data, two levels or more"),
        (data_file, free, "LearnedCorrection", "linear equations in the data, two levels or more"),
        (data_file, ["processor.widths=4,6"], "Multigrid", "of the setting processor.widths"),
        (bare, [], "Multigrid", "no equations in the data"),
    ):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        main(["train", str(path), "-o", str(folder), "--epochs", "1", "--set", "training.seed=0", *settings])
        printed = capsys.readouterr().out
        assert f"model     {name}, " in printed
        assert f"ranks: 1, the default: {reason}\n" in printed
        assert RunConfig.read(folder / "config.toml").model["processor"] == name
    single = replace(data, discretisation=replace(data.discretisation, levels=data.discretisation.levels[:1]))
    assert spon.default_processor([single]) == ("Multigrid", "equations on a single level")
    assert spon.default_processor([data, replace(data, physics=None)])[0] == "Multigrid"
    with pytest.raises(SystemExit):
        main(["train", str(data_file), "-o", str(tmp_path / "run"), "--set", "processor.nonsense=1"])
    assert "unknown setting 'processor.nonsense'" in capsys.readouterr().err
