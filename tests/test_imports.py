"""The layers do not leak, and spon imports without the packages that a layer does not need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "spon"
DOLFINX = {"dolfinx", "petsc4py", "ufl", "basix", "ffcx"}

FORBIDDEN = {
    "nn": {*DOLFINX, "spon.fem", "mpi4py", "spon._compat", "spon.physics.assembled"},
    "training": {*DOLFINX, "spon.fem", "spon._compat", "spon.physics.assembled"},
    "physics/kernels": {*DOLFINX, "spon.fem", "mpi4py", "spon._compat", "spon.physics.assembled"},
    "fem": {"spon.training", "spon.nn", "spon.physics", "spon.cli"},
    "physics": {"spon.training", "spon.cli"},
    "data": {"spon.training", "spon.nn", "spon.cli"},
    "multiscale": {"spon.cli"},
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_layer_imports_only_what_it_may(layer):
    files = sorted((PACKAGE / layer).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            for forbidden in FORBIDDEN[layer]:
                assert name != forbidden, f"{path} imports {name}"
                assert not name.startswith(forbidden + "."), f"{path} imports {name}"


@pytest.mark.parametrize("folder", ["problems", "examples"])
def test_user_files_use_the_public_api_alone(folder):
    files = sorted((PACKAGE.parent / folder).glob("*.py"))
    assert files
    for path in files:
        private = {n for n in imported(path) if n.startswith("spon.")}
        assert not private, f"{path} imports {private}"


def test_version_differences_live_in_compat():
    for path in PACKAGE.rglob("*.py"):
        if path.name not in ("_compat.py", "demo.py"):
            assert "dolfinx.__version__" not in path.read_text(), path
            assert "gmshio" not in path.read_text(), path


def run_without(packages: set[str], code: str) -> subprocess.CompletedProcess:
    """Run code in a fresh Python where some packages cannot be imported."""
    block = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {packages!r}:\n"
        "            raise ModuleNotFoundError(f\"No module named '{name}'\", name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
    )
    command = [sys.executable, "-c", block + code]
    return subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, check=False)


WITHOUT_FEM = {*DOLFINX, "mpi4py", "gmsh"}


def test_torch_layers_import_without_dolfinx():
    code = "import spon, spon.nn, spon.physics.kernels; spon.OperatorNetwork, spon.Dataset, spon.train"
    code += "; spon.DivergenceFree, spon.ZeroMean, spon.Constraint"
    code += "; spon.Deviatoric, spon.MaterialModel, spon.RVE"
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr


def test_fem_call_without_dolfinx_raises_one_clear_error():
    code = "import spon\ntry:\n    spon.read_mesh('a.msh')\nexcept spon.SponError as e:\n    print(e)"
    result = run_without(WITHOUT_FEM, code)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.strip().splitlines()
    assert len(lines) == 1
    assert "DOLFINx >= 0.9" in lines[0]
    assert "conda" in lines[0]


def test_command_without_dolfinx_says_so_in_one_line():
    result = run_without(WITHOUT_FEM, "from spon.cli.main import main\nmain(['demo'])")
    assert result.returncode == 2
    assert result.stderr.startswith("spon: error: spon.fem needs DOLFINx")
    assert len(result.stderr.strip().splitlines()) == 1


def test_complex_petsc_is_refused_in_one_line():
    import numpy as np

    from spon import _compat, errors

    _compat.check_scalar(np.float64)
    with pytest.raises(errors.SponError, match=r"real double scalars .* this PETSc has complex128"):
        _compat.check_scalar(np.complex128)
