"""`spon train` by the equations alone: resumed, evaluated and used from its folder."""

import json
from dataclasses import replace

import numpy as np
import pytest

import spon
from spon.cli.main import main

WORDS = ("physics_loss=residual", "label_weight=0", "learning_rate=1e-2", "microbatch=4")
SETTINGS = ["--processor", "LearnedCorrection", "--set", *(f"training.{word}" for word in WORDS)]


def train(path, folder, *more):
    return main(["train", str(path), "-o", str(folder), *SETTINGS, "processor.width=6", *more])


def test_a_run_without_labels(dataset, tmp_path):
    path, run = tmp_path / "square.h5", tmp_path / "run"
    replace(dataset, sizes=(12, 6, 6)).save(path)
    assert train(path, run, "--epochs", "3") in (0, None)
    assert train(path, run, "--epochs", "3") in (0, None)  # finished: what is there is read back
    text = (run / "config.toml").read_text()
    assert 'physics_loss = "residual"' in text
    assert "label_weight = 0.0" in text
    assert main(["evaluate", str(run)]) in (0, None)
    found = json.loads((run / "metrics.json").read_text())
    assert found["relative_h1"]["mean"] < 0.02
    assert found["boundary_error"]["max"] < 1e-12
    loaded = spon.load_model(run / "model.pt")
    test = spon.Dataset.load(path).parts()[2]
    np.testing.assert_allclose(loaded.predict(test.inputs), test.outputs, atol=0.05)


def test_one_line_for_each_mistake(dataset, tmp_path, capsys):
    bare = tmp_path / "bare.h5"
    replace(dataset, sizes=(12, 6, 6), physics=None).save(bare)
    with pytest.raises(SystemExit):
        train(bare, tmp_path / "run")
    assert "corrections by cycles for no equations; allowed: data with" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", str(bare), "-o", str(tmp_path / "run"), *SETTINGS[2:]])
    assert "physics_loss 'residual' for a data set without equations; all" in capsys.readouterr().err
