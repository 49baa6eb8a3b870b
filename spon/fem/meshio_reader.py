"""Read the many formats that meshio knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import MissingDependencyError, SponError
from spon.fem import abaqus
from spon.fem.meshio_groups import groups, numbered, sides_of_cells
from spon.fem.raw import Group, RawMesh
from spon.quiet import quiet

__all__ = [
    "CELLS",
    "FACETS",
    "from_meshio",
    "read_meshio",
    "suffixes",
    "vtk_order",
]

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
    return from_meshio(mesh, source)


def from_meshio(mesh: Any, source: str) -> RawMesh:
    """Return what a `meshio.Mesh` holds.

    Args:
        mesh: as meshio read it.
        source: file, for messages.

    Raises:
        SponError: cells that spon cannot use.
    """
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
    cell_groups = groups(mesh, chosen, tdim, source)
    facet_groups = groups(mesh, sides, tdim - 1, source) or numbered(mesh, sides, source)
    foreign = sorted({mesh.cells[k].type for k in sides} - set(FACETS[cell_type]))
    if facet_groups and foreign:
        raise SponError(
            f"{source}: boundary elements are {foreign[0]}; allowed: {', '.join(FACETS[cell_type])}"
        )
    corners = [0, 1, 3, 2] if cell_type == "hexahedron" else list(range(tdim))
    facets = _stack(mesh, sides, len(corners))[:, corners] if facet_groups else np.empty((0, len(corners)))
    if not facet_groups:
        facets, facet_groups = sides_of_cells(mesh, chosen, cell_type, cells)
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
