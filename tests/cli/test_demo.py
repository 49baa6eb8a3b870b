import json

import meshio
import numpy as np
import pytest
from conftest import MESHES
from mpi4py import MPI

import spon
from spon.cli.main import main

WORLD = MPI.COMM_WORLD
TINY = ["demo", "--quick", "--refinements", "1", "--epochs", "2"]
STATISTICS = {"mean", "median", "max"}


@pytest.mark.mpi
def test_demo_writes_what_it_says(shared_folder, capsys):
    folder = shared_folder / "out"
    main([*TINY, "-o", str(folder)])
    WORLD.Barrier()
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("relative_l2", "relative_h1", "boundary_error", "fe_floor_l2"):
        assert set(metrics[name]) == STATISTICS
    assert metrics["boundary_error"]["max"] <= 1e-12
    assert metrics["fe_floor_l2"]["max"] < metrics["relative_l2"]["max"]
    assert set(metrics["baselines"]) == {"mean_output", "pod_regression"}
    assert metrics["versions"]["ranks"] == WORLD.size
    assert metrics["seconds"]["prediction"] > 0
    data = spon.Dataset.load(folder / "data.h5")
    model = spon.load_model(folder / "model.pt")
    assert model.fingerprint == data.discretisation.fingerprint
    number = metrics["samples"]["median"]
    sample = data[data.numbers == number]
    predicted = model.predict(sample.inputs)[0]
    field = meshio.read(folder / "u.xdmf").point_data
    np.testing.assert_allclose(field["u"].ravel(), predicted, atol=1e-9)
    np.testing.assert_array_equal(field["u_reference"].ravel(), sample.outputs[0])
    assert (folder / "u.bp").is_dir()
    assert (folder / "plate.png").stat().st_size > 20_000
    if WORLD.rank == 0:
        assert "operator network" in capsys.readouterr().out


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mesh", "absent.msh"], "no such mesh file: absent.msh"),
        (["--mesh", str(MESHES / "plate.geo")], "--mesh needs --temperature NAME=K; "),
        (["--temperature", "left=1", "left=2"], "--temperature gives boundary 'left' 2 times; allowed: once"),
        (["--flux", "top=nan"], "the heat flux on boundary 'top' is nan; it must be finite"),
        (["--temperature", "inflow=1"], "boundary 'inflow' not found in"),
        (["--flux", "inflow=1"], "boundary 'inflow' not found in"),
        (["--refinements", "-1"], "refinements = -1; allowed: 0, 1, 2"),
        (["--epochs", "0"], "epochs = 0; allowed: > 0"),
        (["--device", "abacus"], "device 'abacus'; allowed: cpu, cuda"),
        (["--seed", "-3"], "seed = -3; allowed:"),
        (["-o", "/proc/demo"], "cannot write into the folder /proc/demo"),
    ],
)
def test_bad_arguments_are_answered_in_one_line_on_all_ranks(shared_folder, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main([*TINY, "-o", str(shared_folder), *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    if WORLD.rank == 0:
        lines = [line for line in err.splitlines() if "error" in line]
        assert len(lines) == 1
        assert lines[0].startswith("spon: error: ")
        assert message in lines[0]


@pytest.mark.parametrize("text", ["left", "left=warm", "=1"])
def test_malformed_values_are_refused(capsys, text):
    with pytest.raises(SystemExit):
        main([*TINY, "--temperature", text])
    assert f"'{text}'; allowed: NAME=NUMBER" in capsys.readouterr().err
