"""Find groups of cells and boundaries in what meshio read: each format has its own way to keep them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import SponError
from spon.fem import reference
from spon.fem.raw import Group

__all__ = ["CELL_GROUP", "FACET_GROUP", "SIDES", "groups", "numbered", "sides_of_cells"]

# how `write_arrays` keeps names in formats that have numbers alone: an array of 0 and 1 for each group, or
# one of bits that say which facets of a cell are in a boundary
CELL_GROUP, FACET_GROUP, SIDES = "cells:", "facets:", "sides:"

# arrays that hold numbers of groups, by the programs that write them
_TAGS = (
    "gmsh:physical",
    "medit:ref",
    "ugrid:ref",
    "nastran:ref",
    "flac3d:group",
    "su2:tag",
    "avsucd:material",
)

Integers = npt.NDArray[np.int64]


def groups(mesh: Any, blocks: list[int], dim: int, source: str) -> list[Group]:
    """Return the named groups among the elements of some blocks, numbered through."""
    if not blocks:
        return []
    for prefix in (CELL_GROUP, FACET_GROUP):
        marks = {n: _values(mesh, n, blocks) for n in mesh.cell_data if n.startswith(prefix)}
        if any(v.any() for v in marks.values()):
            return [Group(name[len(prefix) :], np.flatnonzero(v)) for name, v in marks.items()]
    sets = _sets(mesh, blocks, source)
    if sets:
        return sets
    if getattr(mesh, "cell_tags", None) and "cell_tags" in mesh.cell_data:  # MED's families
        values = _values(mesh, "cell_tags", blocks)
        return [
            Group(name, np.flatnonzero(values == family))
            for family, names in mesh.cell_tags.items()
            for name in names
            if (values == family).any()
        ]
    names = {int(v[0]): name for name, v in mesh.field_data.items() if len(v) == 2 and int(v[1]) == dim}
    array = next((name for name in _TAGS if name in mesh.cell_data), None)
    return [] if array is None else _by_number(_values(mesh, array, blocks), names)


def _sets(mesh: Any, blocks: list[int], source: str) -> list[Group]:
    start = dict(zip(blocks, np.cumsum([0, *(len(mesh.cells[k].data) for k in blocks)]), strict=False))
    total = sum(len(mesh.cells[k].data) for k in blocks)
    out = []
    for name, parts in mesh.cell_sets.items():
        if len(parts) > len(mesh.cells) or any(p is not None and np.ndim(p) != 1 for p in parts):
            raise SponError(f"{source}: meshio cannot read the set '{name}' of other sets; list its elements")
        found = [
            start[k] + np.asarray(p, dtype=np.int64)
            for k, p in enumerate(parts)
            if k in start and p is not None and len(p)
        ]
        if found:
            out.append(Group(name, np.unique(np.concatenate(found))))
    # a set of everything, as many programs write, tells nothing beside others
    proper = [g for g in out if len(g.members) < total]
    return proper if proper else out[:1]


def numbered(mesh: Any, blocks: list[int], source: str) -> list[Group]:
    """Return boundaries named by the only array of integers on the elements of the boundary."""
    if not blocks:
        return []
    integer = [
        name
        for name, parts in mesh.cell_data.items()
        if all(np.asarray(parts[k]).dtype.kind in "iu" and np.ndim(parts[k]) == 1 for k in blocks)
        and not name.startswith((CELL_GROUP, FACET_GROUP, "gmsh:"))
    ]
    if len(integer) > 1:
        found = ", ".join(f"'{name}'" for name in integer)
        raise SponError(
            f"{source}: several arrays may number the boundaries: {found}; allowed: one, or 'gmsh:physical'"
        )
    return _by_number(_values(mesh, integer[0], blocks), {}) if integer else []


def sides_of_cells(
    mesh: Any, blocks: list[int], cell_type: str, cells: Integers
) -> tuple[Integers, list[Group]]:
    """Return the facets that cells mark by bits, and the boundaries that they make."""
    corners = reference.facet_corners(cell_type)
    facets: list[Integers] = [np.empty((0, corners.shape[1]), dtype=np.int64)]
    boundaries = []
    start = 0
    for name in (name for name in mesh.cell_data if name.startswith(SIDES)):
        bits = _values(mesh, name, blocks).astype(np.int64)[:, None] >> np.arange(len(corners)) & 1
        where, local = np.nonzero(bits)
        facets.append(cells[where[:, None], corners[local]])
        boundaries.append(Group(name[len(SIDES) :], start + np.arange(len(where))))
        start += len(where)
    return np.concatenate(facets), boundaries


def _values(mesh: Any, name: str, blocks: Iterable[int]) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(mesh.cell_data[name][k]).reshape(-1) for k in blocks])


def _by_number(values: npt.NDArray[Any], names: dict[int, str]) -> list[Group]:
    """Return a group for each number; 0 means none."""
    numbers = [int(n) for n in np.unique(values) if n != 0]
    keep = all(0 < n < 2**31 for n in numbers)
    return [Group(names.get(n, str(n)), np.flatnonzero(values == n), n if keep else None) for n in numbers]
