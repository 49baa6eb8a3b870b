"""Read `.msh` and `.geo` files by gmsh's own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon import _compat
from spon.errors import MissingDependencyError, SponError
from spon.fem.raw import Group, RawMesh

__all__ = ["read_gmsh"]

# gmsh's numbers of element types, https://gmsh.info/doc/texinfo/gmsh.html#MSH-file-format
_CELLS = {
    2: "triangle",
    9: "triangle",
    3: "quadrilateral",
    16: "quadrilateral",
    10: "quadrilateral",
    4: "tetrahedron",
    11: "tetrahedron",
    5: "hexahedron",
    17: "hexahedron",
    12: "hexahedron",
}
_FACETS = {
    "triangle": (1, 8),
    "quadrilateral": (1, 8),
    "tetrahedron": (2, 9),
    "hexahedron": (3, 16, 10),
}
_WHOLE = {("quadrilateral", 8): 9, ("hexahedron", 20): 27}  # serendipity nodes come first in the whole cell

Integers = npt.NDArray[np.int64]


def read_gmsh(path: Path) -> RawMesh:
    """Read a file that gmsh reads, on the calling process alone.

    Args:
        path: `.msh` (2.2 or 4.1), or `.geo`, which gmsh meshes first.

    Raises:
        SponError: unreadable content, no physical groups, a cell type that spon cannot use.
        MissingDependencyError: gmsh's Python module is missing.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        tail = file.read()
    if path.suffix == ".geo" and not tail.endswith(b"\n"):
        raise SponError(f"{path}: its last line does not end, and gmsh would ignore it: add a newline")
    if path.suffix == ".msh" and not tail.rstrip().rpartition(b"\n")[2].startswith(b"$End"):
        raise SponError(f"{path}: is no file of gmsh or is cut off: its last section has no end")
    try:
        import gmsh
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {path} needs gmsh's Python module ({error}): pip install gmsh"
        ) from error
    gmsh.initialize(interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setNumber("General.NumThreads", 1)  # the same mesh every time
        try:
            gmsh.open(str(path))
            if path.suffix == ".geo":
                gmsh.model.mesh.generate(gmsh.model.getDimension())
        except Exception as error:  # gmsh raises bare Exception
            detail = " ".join(str(error).split())
            raise SponError(f"{path}: gmsh cannot read it: {detail}") from error
        return _from_model(gmsh.model, str(path))
    finally:
        gmsh.finalize()


def _from_model(model: Any, source: str) -> RawMesh:
    tags, coordinates, _ = model.mesh.getNodes()
    kinds = model.mesh.getElementTypes()
    if len(tags) == 0 or len(kinds) == 0:
        raise SponError(f"{source}: has no mesh in it")
    points: Any = np.asarray(coordinates, dtype=np.float64).reshape(-1, 3)
    order = np.argsort(tags)
    points, tags = points[order], np.asarray(tags, dtype=np.int64)[order]
    tdim = max(model.mesh.getElementProperties(t)[1] for t in kinds)
    if not model.getPhysicalGroups(tdim):
        raise SponError(
            f"{source}: no physical groups of cells (dimension {tdim}); give the domain and its "
            'boundaries a name, in gmsh: Physical Surface("plate") = {1};'
        )
    cell_kinds, cells, cell_groups = _elements(model, tdim)
    kind = next(iter(cell_kinds), 0)
    if len(cell_kinds) != 1 or kind not in _CELLS:
        found = ", ".join(model.mesh.getElementProperties(k)[0] for k in sorted(cell_kinds)) or "none"
        allowed = ", ".join(_FACETS)
        raise SponError(
            f"{source}: cells are {found}; allowed: {allowed}, of first or second order, one kind"
        )
    cell_type = _CELLS[kind]
    facet_kinds, facets, facet_groups = _elements(model, tdim - 1)
    if facet_kinds - set(_FACETS[cell_type]):
        found = ", ".join(model.mesh.getElementProperties(k)[0] for k in sorted(facet_kinds))
        raise SponError(f"{source}: boundary elements are {found}; allowed: sides of a {cell_type}")
    return RawMesh(
        points=points,
        cell_type=cell_type,
        cells=_numbered(tags, _in_order(cells, cell_type), source),
        cell_groups=cell_groups,
        facets=_numbered(tags, _corners(facets, cell_type), source),
        facet_groups=facet_groups,
        source=source,
    )


def _elements(model: Any, dim: int) -> tuple[set[int], Integers, list[Group]]:
    """Gather the elements of all physical groups of one dimension in the order of their numbers.

    Returns:
        Kinds of elements; node tags in gmsh's order, (elements, nodes), as many as the smallest kind has;
        groups of elements.
    """
    groups = [
        (model.getPhysicalName(dim, tag) or str(tag), int(tag), model.getEntitiesForPhysicalGroup(dim, tag))
        for _, tag in model.getPhysicalGroups(dim)
    ]
    kinds: set[int] = set()
    numbers, nodes, parts = [], [], {}
    start = 0
    for entity in sorted({int(e) for _, _, entities in groups for e in entities}):
        first = start
        for kind, own, flat in zip(*model.mesh.getElements(dim, entity), strict=True):
            kinds.add(int(kind))
            numbers.append(np.asarray(own, dtype=np.int64))
            nodes.append(np.asarray(flat, dtype=np.int64).reshape(len(own), -1))
            start += len(own)
        parts[entity] = np.arange(first, start)
    if not nodes:
        return kinds, np.empty((0, 0), np.int64), [Group(n, np.empty(0, np.int64), t) for n, t, _ in groups]
    order = np.argsort(np.concatenate(numbers), kind="stable")
    place = np.argsort(order)
    width = min(n.shape[1] for n in nodes)
    return (
        kinds,
        np.concatenate([n[:, :width] for n in nodes])[order],
        [Group(n, place[np.concatenate([parts[int(e)] for e in entities])], t) for n, t, entities in groups],
    )


def _in_order(cells: Integers, cell_type: str) -> Integers:
    from dolfinx.mesh import CellType

    width = int(cells.shape[1])
    whole = _WHOLE.get((cell_type, width), width)
    permutation: Integers = np.asarray(_compat.gmsh_cell_permutation(CellType[cell_type], whole))[:width]
    return np.asarray(cells[:, permutation])


def _corners(facets: Integers, cell_type: str) -> Integers:
    """Return the corners of facets in DOLFINx's order; gmsh has them first."""
    columns = {"tetrahedron": [0, 1, 2], "hexahedron": [0, 1, 3, 2]}.get(cell_type, [0, 1])
    if len(facets) == 0:
        return np.empty((0, len(columns)), dtype=np.int64)
    return facets[:, columns]


def _numbered(tags: Integers, nodes: Integers, source: str) -> Integers:
    """Return the place of each node tag in the sorted tags."""
    place = np.searchsorted(tags, nodes)
    if len(tags) and (tags[np.minimum(place, len(tags) - 1)] != nodes).any():
        raise SponError(f"{source}: an element refers to a node that does not exist")
    return place
