"""Each example runs, under MPI too, and prints plausible numbers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("launcher", [[], ["mpirun", "-n", "2"]])
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
