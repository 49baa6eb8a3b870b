"""Refuse Abaqus files whose sets meshio would take for others."""

from __future__ import annotations

from pathlib import Path

from spon.errors import SponError

__all__ = ["check"]


def check(path: Path) -> None:
    """Check how `*ELEMENT` and `*ELSET` are used.

    meshio gives the i-th ELSET to the i-th block of elements, so that all blocks must have one, each of its
    own name, or none; and it loses the place of sets that are made of other sets.

    Raises:
        SponError: such use, or a file that ends within a line.
    """
    named: list[str | None] = []
    with path.open(errors="replace") as file:
        after = line = ""
        for line in file:
            keyword = line.partition(",")[0].strip().upper()
            if keyword == "*ELEMENT":
                named.append(_parameter(line, "ELSET"))
            elif after and "GENERATE" not in after and not line.startswith("*"):
                first = line.partition(",")[0].strip()
                if first and not first.lstrip("-").isdigit():
                    name = _parameter(after, "ELSET")
                    raise SponError(f"{path}: set '{name}' is made of other sets; list its elements instead")
            after = line.upper() if keyword == "*ELSET" else ""
    if line and not line.endswith("\n"):
        raise SponError(f"{path}: its last line does not end; if it is not cut off, add a newline")
    sets = [name for name in named if name]
    if sets and len(sets) < len(named):
        raise SponError(
            f"{path}: {len(sets)} of {len(named)} *ELEMENT lines have an ELSET; allowed: all or none of them"
        )
    twice = next((name for name in sets if sets.count(name) > 1), None)
    if twice is not None:
        raise SponError(f"{path}: several *ELEMENT lines have ELSET={twice}; allowed: one line for each set")


def _parameter(line: str, name: str) -> str | None:
    for part in line.split(",")[1:]:
        key, _, value = part.partition("=")
        if key.strip().upper() == name:
            return value.strip()
    return None
