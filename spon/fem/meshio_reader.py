"""Read the many formats that meshio knows."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import MissingDependencyError, SponError
from spon.fem import abaqus
from spon.fem.raw import Group, RawMesh

__all__ = ["CELLS", "CELL_GROUP", "FACETS", "FACET_GROUP", "quiet", "read_meshio", "suffixes", "vtk_order"]

CELLS = {
    "triangle": "triangle",
    "triangle6": "triangle",
    "quad": "quadrilateral",
    "quad8": "quadrilateral",
    "quad9": "quadrilateral",
    "tetra": "tetrahedron",
    "tetra10": "tetrahedron",
    "hexahedron": "hexahedron",
    "hexahedron20": "hexahedron",
    "hexahedron27": "hexahedron",
}
FACETS = {
    "triangle": ("line", "line3"),
    "quadrilateral": ("line", "line3"),
    "tetrahedron": ("triangle", "triangle6"),
    "hexahedron": ("quad", "quad8", "quad9"),
}
# how `write_arrays` keeps names in formats that have numbers alone: an array of 0 and 1 for each group
CELL_GROUP, FACET_GROUP = "cells:", "facets:"

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


def suffixes() -> list[str]:
    """Return the suffixes that meshio knows; none where it is not installed."""
    try:
        import meshio
    except ImportError:
        return []
    return sorted(meshio.extension_to_filetypes)


def vtk_order(cell_type: str, nodes: int) -> Integers:
    """Return p such that `vtk_cells[:, p]` are in DOLFINx's order; meshio has VTK's for all formats.

    Args:
        cell_type: as in `MeshArrays`, or "interval".
        nodes: nodes in a cell, serendipity cells included.
    """
    from dolfinx.cpp.io import perm_vtk
    from dolfinx.mesh import CellType

    whole = {("quadrilateral", 8): 9, ("hexahedron", 20): 27}.get((cell_type, nodes), nodes)
    return np.asarray(perm_vtk(CellType[cell_type], whole), dtype=np.int64)[:nodes]


def read_meshio(path: Path) -> RawMesh:
    """Read a file by meshio, on the calling process alone.

    Groups are taken from sets of elements, from tags with names, or from the numbers that the elements of the
    boundary bear; without any, all cells are the group "domain".

    Raises:
        SponError: unreadable content, cells that spon cannot use.
        MissingDependencyError: meshio, or what it needs for this format, is missing.
    """
    try:
        import meshio
    except ImportError as error:
        raise MissingDependencyError(f"reading {path} needs meshio ({error}): pip install meshio") from error
    source = str(path)
    if path.suffix == ".inp":
        abaqus.check(path)
    with quiet(f"{source}: meshio cannot read it"):
        mesh = meshio.read(path)
    return _from_mesh(mesh, source)


@contextlib.contextmanager
def quiet(what: str) -> Any:
    """Turn whatever meshio prints, raises or exits with into one line.

    Raises:
        SponError: `what`, with the last line that meshio gave.
        MissingDependencyError: a module that it needs is missing.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), np.errstate(all="ignore"):
            yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{what}: {error}") from error
    except (Exception, SystemExit) as error:
        known = type(error).__module__.startswith("meshio")
        text = str(error) if known else f"{type(error).__name__}: {error}"
        detail = " ".join((said.getvalue() if isinstance(error, SystemExit) else text).split())
        raise SponError(f"{what}: {detail[:300] or type(error).__name__}") from error


def _from_mesh(mesh: Any, source: str) -> RawMesh:
    blocks = [(b.type, np.asarray(b.data)) for b in mesh.cells if len(b.data)]
    dims = [_dimension(kind) for kind, _ in blocks]
    tdim = max(dims, default=0)
    kinds = sorted({kind for (kind, _), dim in zip(blocks, dims, strict=True) if dim == tdim})
    if tdim < 2 or len(kinds) != 1 or kinds[0] not in CELLS:
        found = ", ".join(kinds) or "none"
        raise SponError(f"{source}: cells are {found}; allowed: {', '.join(CELLS)}, one kind")
    cell_type = CELLS[kinds[0]]
    # meshio's lists of data are by block, empty ones included
    place = [k for k, b in enumerate(mesh.cells) if len(b.data)]
    chosen = [k for k, (kind, _) in zip(place, blocks, strict=True) if kind in kinds]
    sides = [k for k, dim in zip(place, dims, strict=True) if dim == tdim - 1]
    cells = _stack(mesh, chosen)
    cells = cells[:, vtk_order(cell_type, cells.shape[1])]
    cell_groups = _groups(mesh, chosen, tdim, CELL_GROUP, source)
    facet_groups = _groups(mesh, sides, tdim - 1, FACET_GROUP, source) or _numbered(mesh, sides, source)
    foreign = sorted({mesh.cells[k].type for k in sides} - set(FACETS[cell_type]))
    if facet_groups and foreign:
        raise SponError(
            f"{source}: boundary elements are {foreign[0]}; allowed: {', '.join(FACETS[cell_type])}"
        )
    corners = [0, 1, 3, 2] if cell_type == "hexahedron" else list(range(tdim))
    facets = _stack(mesh, sides, len(corners))[:, corners] if facet_groups else np.empty((0, len(corners)))
    return RawMesh(
        points=np.asarray(mesh.points, dtype=np.float64),
        cell_type=cell_type,
        cells=cells,
        cell_groups=cell_groups or [Group("domain", np.arange(len(cells)), 1)],
        facets=facets.astype(np.int64),
        facet_groups=facet_groups,
        source=source,
    )


def _dimension(kind: str) -> int:
    from meshio._mesh import topological_dimension

    return int(topological_dimension.get(kind, 3))


def _stack(mesh: Any, blocks: list[int], width: int | None = None) -> Integers:
    return np.concatenate([np.asarray(mesh.cells[k].data)[:, :width] for k in blocks]).astype(np.int64)


def _groups(mesh: Any, blocks: list[int], dim: int, prefix: str, source: str) -> list[Group]:
    """Return the named groups among the elements of some blocks, numbered through."""
    if not blocks:
        return []
    ours = {name: _values(mesh, name, blocks) for name in mesh.cell_data if name.startswith(prefix)}
    if ours:
        return [Group(name[len(prefix) :], np.flatnonzero(v)) for name, v in ours.items()]
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


def _numbered(mesh: Any, blocks: list[int], source: str) -> list[Group]:
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


def _values(mesh: Any, name: str, blocks: Iterable[int]) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(mesh.cell_data[name][k]).reshape(-1) for k in blocks])


def _by_number(values: npt.NDArray[Any], names: dict[int, str]) -> list[Group]:
    """Return a group for each number; 0 means none."""
    numbers = [int(n) for n in np.unique(values) if n != 0]
    keep = all(0 < n < 2**31 for n in numbers)
    return [Group(names.get(n, str(n)), np.flatnonzero(values == n), n if keep else None) for n in numbers]
