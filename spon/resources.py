"""Find the meshes and problem files that come with spon."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from spon.errors import SponError

__all__ = ["find_mesh", "find_problem", "load_problem"]

_PACKAGE = Path(__file__).resolve().parent


def _find(kind: str, name: str) -> Path:
    found: list[str] = []
    for folder in (_PACKAGE / kind, _PACKAGE.parent / kind):  # installed; a checkout
        if (folder / name).is_file():
            return folder / name
        found += sorted(p.name for p in folder.glob("*.*"))
    raise SponError(f"no {kind} file '{name}' comes with spon; there are: {', '.join(found)}")


def find_mesh(name: str) -> Path:
    """Return the path of a mesh that comes with spon, such as `plate.geo`."""
    return _find("meshes", name)


def find_problem(name: str) -> Path:
    """Return the path of a problem file that comes with spon, such as `plate.py`."""
    return _find("problems", name)


def load_problem(path: str | Path) -> ModuleType:
    """Import a problem file. It is code that runs: trust it as you would a script.

    Args:
        path: Python file; `find_problem` finds those that come with spon.

    Returns:
        The module.

    Raises:
        SponError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise SponError(f"no such problem file: {path}")
    name = f"spon_problem_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
