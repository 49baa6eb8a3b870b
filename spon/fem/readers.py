"""Read mesh files into plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spon import _compat
from spon.errors import MissingDependencyError, SponError
from spon.fem.arrays import MeshArrays

__all__ = ["SUFFIXES", "read_arrays"]

SUFFIXES = (".geo", ".msh")
_GMSH_CELLS = {2: "triangle", 4: "tetrahedron"}
_GMSH_FACETS = {"triangle": 1, "tetrahedron": 2}


def read_arrays(path: str | Path) -> MeshArrays:
    """Read a mesh file, on the calling process alone.

    Args:
        path: `.msh` (2.2 or 4.1), or `.geo`, which gmsh meshes first.

    Returns:
        The mesh in the order of the file, with its physical names.

    Raises:
        SponError: no such file, unknown suffix, unreadable content, no physical groups, a cell type
            that spon cannot use.
        MissingDependencyError: gmsh's Python module is missing.
    """
    path = Path(path)
    if not path.exists():
        raise SponError(f"no such mesh file: {path}")
    if path.suffix not in SUFFIXES:
        raise SponError(f"{path}: unknown mesh format '{path.suffix}'; allowed: {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise SponError(f"{path}: is not a file")
    if path.suffix == ".geo" and not path.read_bytes().endswith(b"\n"):
        raise SponError(f"{path}: its last line does not end, and gmsh would ignore it: add a newline")
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
            raise SponError(f"{path}: gmsh cannot read it: {error}") from error
        return _from_model(gmsh.model, str(path))
    finally:
        gmsh.finalize()


def _from_model(model: Any, source: str) -> MeshArrays:
    tags, coordinates, _ = model.mesh.getNodes()
    if len(tags) == 0:
        raise SponError(f"{source}: has no mesh in it")
    points: Any = np.asarray(coordinates, dtype=np.float64).reshape(-1, 3)
    order = np.argsort(tags)
    points, tags = points[order], np.asarray(tags, dtype=np.int64)[order]
    tdim = max(model.mesh.getElementProperties(t)[1] for t in model.mesh.getElementTypes())
    groups = [g for g in model.getPhysicalGroups() if g[0] == tdim]
    if not groups:
        raise SponError(
            f"{source}: no physical groups of cells (dimension {tdim}); give the domain and its "
            'boundaries a name, in gmsh: Physical Surface("plate") = {1};'
        )
    cell_type, cells, cell_tags, cell_names = _group_elements(model, tdim, source)
    facet_kind = _GMSH_FACETS[cell_type]
    _, facets, facet_tags, facet_names = _group_elements(model, tdim - 1, source, facet_kind)

    # number the points that cells use, in the order of their gmsh tags
    cells, facets = np.searchsorted(tags, cells), np.searchsorted(tags, facets)
    used = np.unique(cells)
    number = np.full(len(points), -1, dtype=np.int64)
    number[used] = np.arange(len(used))
    if len(facets) and number[facets].min() < 0:
        raise SponError(f"{source}: a named boundary has points that no cell has")
    flat = np.ptp(points[used, 2]) == 0.0
    if tdim == 2 and not flat:
        raise SponError(f"{source}: triangles in 3-D space; spon needs a mesh in the plane z = const")
    return MeshArrays(
        points=np.ascontiguousarray(points[used, :tdim]),
        cells=number[cells],
        cell_type=cell_type,
        cell_tags=cell_tags,
        facets=number[facets],
        facet_tags=facet_tags,
        cell_names=cell_names,
        facet_names=facet_names,
        source=source,
    )


def _group_elements(
    model: Any, dim: int, source: str, only: int | None = None
) -> tuple[str, np.ndarray, np.ndarray, dict[str, int]]:
    """Gather the elements of all physical groups of one dimension, in DOLFINx's vertex order."""
    from dolfinx.mesh import CellType

    elements, markers, names, kinds = [], [], {}, set()
    for _, tag in model.getPhysicalGroups(dim):
        names[model.getPhysicalName(dim, tag) or str(tag)] = int(tag)
        for entity in model.getEntitiesForPhysicalGroup(dim, tag):
            for kind, _, nodes in zip(*model.mesh.getElements(dim, entity), strict=True):
                per = model.mesh.getElementProperties(kind)[3]
                kinds.add(int(kind))
                elements.append(np.asarray(nodes, dtype=np.int64).reshape(-1, per))
                markers.append(np.full(len(elements[-1]), tag, dtype=np.int32))
    if only is not None:
        if kinds - {only}:
            raise SponError(f"{source}: boundary elements of gmsh type {sorted(kinds)}; allowed: {only}")
        width, cell_type = {1: 2, 2: 3}[only], ""
    else:
        if len(kinds) != 1 or next(iter(kinds)) not in _GMSH_CELLS:
            found = ", ".join(model.mesh.getElementProperties(k)[0] for k in sorted(kinds)) or "none"
            allowed = ", ".join(_GMSH_CELLS.values())
            raise SponError(f"{source}: cells are {found}; allowed: {allowed}, of first order, one kind")
        cell_type = _GMSH_CELLS[next(iter(kinds))]
        width = {"triangle": 3, "tetrahedron": 4}[cell_type]
    if not elements:
        return cell_type, np.empty((0, width), np.int64), np.empty(0, np.int32), names
    stacked = np.concatenate(elements)
    if cell_type:
        stacked = stacked[:, _compat.gmsh_cell_permutation(CellType[cell_type], width)]
    return cell_type, stacked, np.concatenate(markers), names
