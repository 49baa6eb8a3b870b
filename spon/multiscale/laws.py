"""Laws of phases in a TOML file."""

from __future__ import annotations

import sys
from pathlib import Path

from spon.errors import SponError
from spon.multiscale.materials import Material, make_material

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_laws"]


def read_laws(path: str | Path) -> dict[str, Material]:
    """Read a table for each phase: `law`, the name, and its parameters.

    Example of a file: `[matrix]`, `law = "Deviatoric"`, `K = 4780`, `alpha1 = 50`, `alpha2 = 0.06`.

    Raises:
        SponError: no such file, not TOML, a table without a law, an unknown law or parameter.
    """
    path = Path(path)
    if not path.is_file():
        raise SponError(f"no such file: {path}")
    try:
        tables = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SponError(f"{path}: is no TOML: {error}") from error
    out = {}
    for phase, table in tables.items():
        if not isinstance(table, dict) or not isinstance(table.get("law"), str):
            raise SponError(f"{path}: '{phase}' has no law; allowed: [{phase}] with law = \"NAME\"")
        wrong = [
            k
            for k, v in table.items()
            if k != "law" and (isinstance(v, bool) or not isinstance(v, int | float))
        ]
        if wrong:
            raise SponError(f"{path}: [{phase}] {wrong[0]} = {table[wrong[0]]!r}; allowed: a number")
        try:
            out[phase] = make_material(**table)
        except SponError as error:
            raise SponError(f"{path}: [{phase}] {error}") from error
    return out
