"""Model files: self-contained, and what is wrong with one is said in a line."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square
from test_imports import WITHOUT_FEM, run_without

import spon
from spon.physics.kernels.physics import Physics


@pytest.fixture(scope="module")
def model(problem, dataset):
    d = problem.discretisation
    processor = spon.Multigrid(d, widths=(4,), cycles=1, dtype="float64")
    model = spon.OperatorNetwork(d, processor, "log")
    spon.train(model, dataset, spon.Training(epochs=1, batch_size=12))
    return model


def test_a_file_is_enough(model, dataset, tmp_path):
    load = np.arange(3.0)
    known = replace(
        dataset, units={"kappa": "W/(m K)"}, physics=Physics("diffusion", load, "kappa", {"nu": [0.3]})
    )
    spon.save_model(tmp_path / "model.pt", model, known, {"training": {"epochs": 1}})
    loaded = spon.load_model(tmp_path / "model.pt")
    np.testing.assert_array_equal(loaded.predict(dataset.inputs), model.predict(dataset.inputs))
    assert loaded.discretisation.fingerprint == model.fingerprint
    assert loaded.discretisation.boundaries.keys() == model.discretisation.boundaries.keys()
    shared = spon.load_model(tmp_path / "model.pt", model.discretisation)
    assert shared.discretisation is model.discretisation
    content = spon.read_model(tmp_path / "model.pt")
    assert content["config"] == {"training": {"epochs": 1}}
    data = content["data"]
    assert data["inputs"] == list(model.discretisation.inputs)
    assert data["output_name"] == dataset.output_name
    assert data["units"] == {"kappa": "W/(m K)"}
    physics = spon.load_physics(tmp_path / "model.pt")
    assert physics.constants == {"nu": [0.3]}
    np.testing.assert_array_equal(physics.load, load)


def test_predictions_need_no_dolfinx(model, dataset, tmp_path):
    spon.save_model(tmp_path / "model.pt", model)
    np.save(tmp_path / "x.npy", dataset.inputs[:2])
    code = (
        "import numpy, spon\n"
        f"model = spon.load_model({str(tmp_path / 'model.pt')!r})\n"
        f"numpy.save({str(tmp_path / 'y.npy')!r}, model.predict(numpy.load({str(tmp_path / 'x.npy')!r})))\n"
    )
    done = run_without(WITHOUT_FEM, code)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(dataset.inputs[:2]), rtol=1e-12)


def damaged(path, **changes):
    content = torch.load(path, weights_only=True)
    for key, value in changes.items():
        if value is None:
            del content[key]
        else:
            content[key] = value
    torch.save(content, path)


def test_what_does_not_fit_is_said(model, tmp_path):
    path = tmp_path / "model.pt"
    state = model.state_dict()
    name = "processor.lift.weight"
    fewer = {k: v for k, v in state.items() if k != name}
    cases = [
        ({"format": 1}, "checkpoint format 1; allowed: 2"),
        ({"state": None, "network": None}, "no network, state in the checkpoint; allowed: "),
        ({"state": fewer}, f'does not fit a Multigrid: .*Missing key.*"{name}"'),
        ({"state": state | {name: state[name][:2]}}, f"does not fit a Multigrid: .*size mismatch for {name}"),
        ({"processor": "Wavelet"}, "processor 'Wavelet'; allowed: "),
        ({"settings": {"depth": 3}}, "does not fit a Multigrid: .*depth"),
        ({"discretisation": torch.arange(9, dtype=torch.uint8)}, "its discretisation is damaged"),
        ({"fingerprint": "abc"}, "belongs to another discretisation"),
    ]
    for changes, message in cases:
        spon.save_model(path, model)
        damaged(path, **changes)
        with pytest.raises(spon.SponError, match=message) as error:
            spon.load_model(path)
        assert "\n" not in str(error.value)
    spon.save_model(path, model)
    with pytest.raises(spon.SponError, match="belongs to another discretisation"):
        spon.load_model(path, Diffusion(on_square(2, 2)).discretisation)
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(spon.SponError, match="not a readable checkpoint") as error:
            spon.load_model(path)
        assert "\n" not in str(error.value)


def test_a_model_file_runs_no_code(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (print, ("harm",))

    torch.save({"format": 2, "state": Harmful()}, tmp_path / "model.pt")
    with pytest.raises(spon.SponError, match="not a readable checkpoint"):
        spon.load_model(tmp_path / "model.pt")
