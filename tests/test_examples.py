"""Each example runs, under MPI too, and prints plausible numbers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import spon

ROOT = Path(__file__).parent.parent


LAUNCHERS = pytest.mark.parametrize("launcher", [[], ["mpirun", "-n", "2"]])


@LAUNCHERS
def test_plate(tmp_path, launcher):
    assert launcher == [] or shutil.which("mpirun")
    source = (ROOT / "examples" / "plate.py").read_text()
    assert source.count("epochs=40") == 1
    (tmp_path / "plate.py").write_text(source.replace("epochs=40", "epochs=1"))
    command = [*launcher, sys.executable, "plate.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    number = {k: float(v) for k, v in re.findall(r"(\w\w|boundary) error +([\d.e+-]+)", done.stdout)}
    assert number["L2"] < 20  # per cent, after one epoch; the mean of the outputs has about 20
    assert number["boundary"] <= 1e-12
    assert (tmp_path / "plate.xdmf").is_file()


def run(folder, launcher, name, *written):
    assert launcher == [] or shutil.which("mpirun")
    command = [*launcher, sys.executable, str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted(written)
    return done.stdout


@LAUNCHERS
def test_stokes(tmp_path, launcher):
    printed = run(tmp_path, launcher, "stokes", "stokes.bp", "stokes.png")
    number = {k: float(v) for k, v in re.findall(r"(divergence|into wall) +([\d.e+-]+)", printed)}
    assert number["divergence"] <= 1e-12
    assert number["into wall"] <= 1e-12
    assert printed.count("0.666667") == 3  # flux in, out, by the stream function: ∫ 4y(1 − y) = 2/3
    below = {k: float(v) for k, v in re.findall(r"constant on (\w+) .*: ([\d.]+)% ", printed)}
    # what three refinements give
    assert below == pytest.approx({"circle": 58.03, "slot": 12.96, "triangle": 71.76}, abs=0.3)


@LAUNCHERS
def test_periodic(tmp_path, launcher):
    printed = run(tmp_path, launcher, "periodic", "periodic.vtu")
    effective, lower = (float(re.search(rf"{k} +([\d.]+)", printed)[1]) for k in ("conductivity", "bound"))
    assert lower < 10**0.5 < effective < 1.01 * 10**0.5
    mean, jump = (float(re.search(rf"{k} +([\d.e+-]+)", printed)[1]) for k in ("mean of w", "jump"))
    assert abs(mean) <= 1e-14
    assert jump <= 1e-15


@LAUNCHERS
def test_own_script(tmp_path, launcher):
    printed = run(tmp_path, launcher, "own_script", "own_script.h5", "own_script.vtu")
    assert "2145 > 561 > 66 > 9 nodes" in printed
    number = {k: float(v) for k, v in re.findall(r"^(energy|boundary) .* by ([\d.e+-]+)$", printed, re.M)}
    assert number["energy"] <= 1e-12
    assert number["boundary"] == 0.0
    source = (ROOT / "examples" / "own_script.py").read_text()
    lines = source.split("ten lines\n")[1].split("# -----")[0].strip().splitlines()
    assert len([line for line in lines if line]) <= 10
    loaded = spon.Discretisation.load(tmp_path / "own_script.h5")
    assert loaded.output.element == "P2 triangle"


@LAUNCHERS
def test_cook(tmp_path, launcher):
    printed = run(tmp_path, launcher, "cook", "cell.geo", "cook.bp", "cook.png", "cook_cell.png")
    (x, y), (alone_x, alone_y) = (
        map(float, re.search(rf"{name} +moves by \((\S+), (\S+)\)", printed).groups())
        for name in ("corner", "matrix alone")
    )
    assert alone_x < x < 0 < y < alone_y  # inclusions make it stiffer
    fallback = int(re.search(r"fallback +at (\d+) of 2016 points", printed)[1])
    assert 0 < fallback < 200
    assert re.search(r"reactions +\S+, -80\.000000 N/mm; load 80 N/mm", printed)


@LAUNCHERS
def test_l_profile(tmp_path, launcher):
    names = ("cell.geo", "l_profile.bp", "l_profile.png", "l_profile_cell.png")
    printed = run(tmp_path, launcher, "l_profile", *names)
    count, points, away = re.search(r"fallback +at (\d+) of (\d+) points, within (\S+) mm", printed).groups()
    assert 0 < int(count) < int(points) / 10
    assert float(away) < 10
    assert "reactions    50.000000 N/mm, moment 5000.0000 N" in printed


def test_readme_shows_the_example():
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"```python\n(.*?)```", readme, re.S).group(1)
    example = (ROOT / "examples" / "plate.py").read_text()

    def statements(text):
        lines = (line.split("  #")[0].rstrip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    available = statements(example)
    missing = [line for line in statements(shown) if line not in available]
    assert not missing
