"""Certificates in the verbs: what train calibrates, predict shows and corrects, and evaluate measures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import network
from test_imports import WITHOUT_FEM, run_without

import spon
from spon.cli.main import main

SMALL = ["--set", "processor.widths=4,6,8", "processor.cycles=1", "training.batch_size=6"]


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A run of `spon train`, and inputs in a file."""
    folder = tmp_path_factory.mktemp("trust")
    replace(dataset, sizes=(8, 10, 6)).save(folder / "data.h5")
    main(["train", str(folder / "data.h5"), "-o", str(folder / "run"), "--epochs", "2", *SMALL])
    np.savez(folder / "k.npz", kappa=dataset.inputs[-6:])
    return folder


def predict(folder, *words, target="u.npz", run="run"):
    (folder / target).unlink(missing_ok=True)
    inputs = f"kappa={folder / 'k.npz'}"
    main(["predict", str(folder / run), "--input", inputs, "-o", str(folder / target), *words])


def relative(dataset, values, reference):
    """Energy errors relative to the reference, by the kernel of the data set."""
    norm = spon.KernelCertificate(dataset.discretisation, dataset.physics).norm
    u, m, v = (torch.as_tensor(a) for a in (reference, dataset.inputs[-6:], values))
    return (norm.energy(v - u, u, m) / norm.energy(u, u, m)).numpy()


def test_train_calibrates_on_the_validation_samples(trained, dataset):
    found = json.loads((trained / "run" / "certificate.json").read_text())
    assert found["samples"] == 10
    assert 0.5 < found["lower"] <= found["median"] <= found["upper"] < 2.0
    assert found["fingerprint"] == dataset.discretisation.fingerprint


def test_the_file_of_a_model_has_its_equations(trained, dataset):
    found = spon.load_physics(trained / "run" / "model.pt")
    u, m = torch.as_tensor(dataset.outputs), torch.as_tensor(dataset.inputs)
    kernels = [spon.make_kernel(dataset.discretisation, p) for p in (found, dataset.physics)]
    assert torch.equal(kernels[0](u, m), kernels[1](u, m))


def test_predictions_come_with_certificates(trained, dataset, capsys):
    predict(trained)
    out = capsys.readouterr().out
    found = np.load(trained / "u.npz")
    error = relative(dataset, found["u"], dataset.outputs[-6:])
    assert out.count("estimated relative energy error") == 6
    assert f"η {found['eta'][0]:.3g}, estimated relative energy error" in out
    assert "calibrated on 10 validation samples" in out
    assert "guaranteed" not in out
    assert (found["relative_error_estimate"] <= found["relative_error_upper"]).all()
    assert (found["iterations"] == 0).all()
    size = found["relative_error_estimate"] / found["eta"]  # a prediction has another size than the solution
    assert (size > 0).all()
    upper = found["relative_error_upper"]
    assert (error >= 0.8 * upper / (1 + upper)).all()
    predict(trained, "--no-certificate")
    out = capsys.readouterr().out
    assert "η" not in out
    assert "certificate" not in out
    assert "eta" not in np.load(trained / "u.npz")


@pytest.mark.parametrize("tolerance", ["1e-2", "1e-5", "1e-9"])
def test_a_tolerance_is_met_and_the_saving_is_shown(trained, dataset, capsys, tolerance):
    predict(trained, "--tolerance", tolerance)
    out = capsys.readouterr().out
    found = np.load(trained / "u.npz")
    assert (relative(dataset, found["u"], dataset.outputs[-6:]) <= float(tolerance)).all()
    assert (found["relative_error_bound"] <= float(tolerance)).all()
    assert (found["iterations"] >= 3).all()
    taken, zero = found["iterations"].mean(), found["iterations_from_zero"].mean()
    assert f"tolerance {float(tolerance):g}: 6 of 6 samples corrected, {taken:.1f} iterations each" in out
    assert f"{zero:.1f} from zero" in out


def test_an_untight_tolerance_keeps_the_predictions(trained, capsys):
    predict(trained)
    before = np.load(trained / "u.npz")
    tolerance = float(before["relative_error_upper"].max()) * 1.01
    if tolerance < 1.0:
        predict(trained, "--tolerance", str(tolerance))
        assert "0 of 6 samples corrected" in capsys.readouterr().out
        np.testing.assert_array_equal(np.load(trained / "u.npz")["u"], before["u"])


@pytest.mark.parametrize("name", ["galerkin", "last-layer"])
def test_refined_predictions_have_smaller_errors_and_certificates_of_their_own(
    trained, dataset, capsys, name
):
    predict(trained)
    before = np.load(trained / "u.npz")
    capsys.readouterr()
    predict(trained, "--refine", name)
    out = capsys.readouterr().out
    found = np.load(trained / "u.npz")
    errors = [relative(dataset, f["u"], dataset.outputs[-6:]) for f in (before, found)]
    assert (errors[1] < errors[0]).all()
    assert (found["eta"] < before["eta"]).all()
    assert "refined: least energy" in out
    assert "calibrated on 10 validation samples" in out
    own = json.loads((trained / "run" / f"certificate-{name}.json").read_text())
    assert f"'at most': {own['upper']:.3f} η" in out
    np.testing.assert_allclose(  # of the refined field, by the calibration of refined fields
        found["relative_error_upper"] / found["relative_error_estimate"], own["upper"] / own["median"]
    )
    model = spon.load_model(trained / "run" / "model.pt")
    norm = spon.KernelCertificate(dataset.discretisation, dataset.physics).norm
    u, m = (torch.as_tensor(a) for a in (found["u"], dataset.inputs[-6:]))
    np.testing.assert_allclose(found["eta"], norm(u, m), rtol=1e-4)
    plain = torch.as_tensor(model.predict(dataset.inputs[-6:]))
    solver = spon.MultigridSolver(dataset.discretisation, dataset.physics)
    kinds = {
        "galerkin": spon.GalerkinRefinement(solver),
        "last-layer": spon.LastLayerRefinement(model, solver),
    }
    np.testing.assert_allclose(found["u"], kinds[name](plain, m), rtol=0, atol=1e-6 * found["u"].std())
    predict(trained, "--refine", name, "--tolerance", "1e-6")
    assert (relative(dataset, np.load(trained / "u.npz")["u"], dataset.outputs[-6:]) <= 1e-6).all()
    predict(trained, "--refine", name, "--no-certificate")
    np.testing.assert_array_equal(np.load(trained / "u.npz")["u"], found["u"])
    assert "eta" not in np.load(trained / "u.npz")


def test_a_run_without_a_calibration_of_refined_fields_says_so(trained, dataset, capsys):
    (trained / "older").mkdir()
    for name in ("model.pt", "certificate.json"):
        (trained / "older" / name).write_bytes((trained / "run" / name).read_bytes())
    predict(trained, "--refine", "galerkin", run="older")
    assert "not calibrated: no certificate-galerkin.json beside the model" in capsys.readouterr().out
    assert "relative_error_upper" not in np.load(trained / "u.npz")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--refine", "much"], "invalid choice: 'much'"),
        (
            ["--tolerance", "1e-30"],
            "the tolerance 1e-30 was not reached: the relative energy error of sample",
        ),
        (["--tolerance", "2"], "allowed: a number between 0 and 1"),
        (["--tolerance", "much"], "allowed: a number between 0 and 1"),
        (["--tolerance", "1e-3", "--no-certificate"], "not allowed with argument"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(trained, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        predict(trained, *words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (trained / "u.npz").exists()


def test_without_equations_no_certificate_is_given_and_a_tolerance_is_refused(trained, dataset, capsys):
    bare = replace(dataset, physics=None)
    (trained / "bare").mkdir(exist_ok=True)
    spon.save_model(trained / "bare" / "model.pt", network(bare), bare)
    assert spon.load_physics(trained / "bare" / "model.pt") is None
    predict(trained, run="bare")
    out = capsys.readouterr().out
    assert out.count("no certificate can be given: the model does not carry its equations") == 1
    assert "eta" not in np.load(trained / "u.npz")
    with pytest.raises(SystemExit) as stop:
        predict(trained, "--tolerance", "1e-3", run="bare")
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "--tolerance 0.001 needs a certificate: the model does not carry its equations" in err
    assert len(err.strip().splitlines()) == 1
    with pytest.raises(SystemExit) as stop:
        predict(trained, "--refine", "galerkin", run="bare")
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "--refine galerkin needs the equations: the model does not carry its equations" in err
    assert len(err.strip().splitlines()) == 1
    assert not (trained / "u.npz").exists()


def test_a_model_that_was_not_calibrated_says_so_and_all_is_corrected(trained, dataset, capsys):
    (trained / "plain").mkdir(exist_ok=True)
    spon.save_model(trained / "plain" / "model.pt", network(dataset, "log"), dataset)
    predict(trained, "--tolerance", "1e-3", run="plain")
    out = capsys.readouterr().out
    assert "not calibrated" in out
    assert "at most" in out
    assert "6 of 6 samples corrected" in out
    assert "relative_error_upper" not in np.load(trained / "u.npz")


def test_evaluate_measures_the_estimates(trained, capsys):
    main(["evaluate", str(trained / "run"), "-o", str(trained / "report")])
    out = capsys.readouterr().out
    found = json.loads((trained / "report" / "metrics.json").read_text())["certificate"]
    e = found["effectivity"]
    assert found["samples"] == 6
    assert 0.8 < e["min"] <= e["mean"] <= e["max"] < 1.2
    assert found["level"] == 0.9
    assert 0.0 <= found["covered"] <= 1.0
    assert f"estimated energy error / energy error: mean {e['mean']:.3f}" in out
    html = (trained / "report" / "report.html").read_text()
    assert html.count('<section id="trust">') == 1
    assert f"η / error is {e['mean']:.3f} on average" in html
    assert "Error over estimate" in html


def test_evaluate_makes_the_calibrations_that_a_run_lacks(trained):
    """The same as train makes, and those that are there stay as they are."""
    run = trained / "lacking"
    run.mkdir()
    names = ("certificate.json", "certificate-galerkin.json", "certificate-last-layer.json")
    for name in ("model.pt", "config.toml", "log.csv"):
        (run / name).write_bytes((trained / "run" / name).read_bytes())
    kept = json.loads((trained / "run" / names[2]).read_text()) | {"upper": 1.5}
    (run / names[2]).write_text(json.dumps(kept))
    main(["evaluate", str(run), "--data", str(trained / "data.h5")])
    for name in names[:2]:
        made, wanted = (json.loads((trained / where / name).read_text()) for where in ("lacking", "run"))
        assert made.keys() == wanted.keys()
        for key in ("median", "upper", "lower"):
            assert made[key] == pytest.approx(wanted[key], rel=1e-5)
    assert json.loads((run / names[2]).read_text()) == kept
    metrics = json.loads((run / "metrics.json").read_text())["certificate"]
    assert metrics["level"] == 0.9


def test_no_dolfinx_is_needed_for_a_tolerance(trained):
    words = ["predict", str(trained / "run"), "--input", f"kappa={trained / 'k.npz'}"]
    words += ["-o", str(trained / "v.npz"), "--tolerance", "1e-6"]
    result = run_without(WITHOUT_FEM, f"from spon.cli.main import main\nmain({words!r})")
    assert result.returncode == 0, result.stderr
    assert "6 of 6 samples corrected" in result.stdout
