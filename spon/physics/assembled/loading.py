"""Find the class in a problem file."""

from __future__ import annotations

from pathlib import Path

from spon.errors import SponError
from spon.physics.assembled.problem import Problem
from spon.resources import find_problem, load_problem

__all__ = ["problem_class"]


def problem_class(file: str | Path, name: str | None = None) -> type[Problem]:
    """Load a problem file and return the class in it.

    Args:
        file: path, or the name of a problem that comes with spon, such as `plate` or `plate.py`.
        name: of the class, for files with several.

    Raises:
        SponError: no such file; no such class in it, or several and no name.
    """
    path = Path(file)
    if not path.is_file():
        if len(path.parts) > 1:
            raise SponError(f"no such problem file: {path}")
        path = find_problem(path.name if path.suffix else f"{path.name}.py")
    module = load_problem(path)
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Problem) and value.__module__ == module.__name__
    }
    if not found:
        raise SponError(f"{path} defines no problem; it needs a class derived from spon.Problem")
    if name is None and len(found) > 1:
        raise SponError(f"{path} defines several problems; choose one with --class: {', '.join(found)}")
    if name is not None and name not in found:
        raise SponError(f"class '{name}' not found in {path}; it has: {', '.join(found)}")
    return found[name or next(iter(found))]
