"""Write meshes to files that `read_arrays` reads back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import MissingDependencyError, SponError
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.meshio_reader import CELL_GROUP, FACET_GROUP, quiet, suffixes, vtk_order
from spon.fem.readers import read_arrays
from spon.fem.topology import Topology
from spon.files import replacing

__all__ = ["write_arrays"]

_CELLS = {
    "triangle": ("triangle", "triangle6"),
    "quadrilateral": ("quad", "quad9"),
    "tetrahedron": ("tetra", "tetra10"),
    "hexahedron": ("hexahedron", "hexahedron27"),
    "interval": ("line", "line3"),
}

Integers = npt.NDArray[np.int64]


def write_arrays(path: str | Path, arrays: MeshArrays) -> list[str]:
    """Write a mesh, on the calling process alone; read it back before the file gets its name.

    Args:
        path: `.msh` (2.2, binary), `.xdmf` with its `.h5`, `.vtu`, or what else meshio writes.
        arrays: mesh.

    Returns:
        What the format cannot keep, in words; nothing for `.msh`, `.xdmf`, `.vtu` of meshes whose cells are
        all in groups.

    Raises:
        SponError: unknown format, unwritable path, a format that cannot hold this mesh.
        MissingDependencyError: meshio is missing.
    """
    path = Path(path)
    try:
        import meshio
    except ImportError as error:
        raise MissingDependencyError(f"writing {path} needs meshio ({error}): pip install meshio") from error
    if path.suffix not in suffixes():
        allowed = ", ".join(suffixes())
        raise SponError(f"{path}: unknown mesh format '{path.suffix}'; allowed: {allowed}")
    if path.is_dir():
        raise SponError(f"cannot write {path}: it is a folder")
    mesh = _mesh(arrays, path.suffix)
    options: dict[str, Any] = {"file_format": "gmsh22"} if path.suffix == ".msh" else {}
    with replacing(path) as temporary:
        with quiet(f"{path}: meshio cannot write this mesh"):
            meshio.write(temporary, mesh, **options)
        notes = _compare(arrays, temporary, path)
        for extra in sorted(temporary.parent.iterdir()):  # the .h5 of an .xdmf
            if extra != temporary:
                extra.replace(path.parent / extra.name)
    return notes


def _mesh(arrays: MeshArrays, suffix: str) -> Any:
    import meshio

    blocks = [_block(arrays.cell_type, arrays.degree, arrays.cells)]
    if len(arrays.facets):
        blocks.append(_block(reference.FACET_TYPES[arrays.cell_type], arrays.degree, _facets(arrays)))
    flat = arrays.tdim if suffix in (".inp", ".med") and arrays.tdim == 2 else 3
    points = np.pad(arrays.points, ((0, 0), (0, flat - arrays.gdim)))
    mesh = meshio.Mesh(points, blocks)
    tags = [arrays.cell_tags, arrays.facet_tags][: len(blocks)]
    names = (arrays.cell_names, arrays.facet_names)
    if suffix == ".msh":
        free = 1 + max([0, *arrays.cell_names.values(), int(arrays.cell_tags.max())])
        tags[0] = np.where(tags[0] < 0, np.int32(free), tags[0])  # gmsh drops cells without a group
        mesh.field_data = {
            name: np.array([tag, arrays.tdim - k])
            for k, group in enumerate(names)
            for name, tag in group.items()
        }
        mesh.cell_data = {key: [t.copy() for t in tags] for key in ("gmsh:physical", "gmsh:geometrical")}
    elif suffix == ".med":
        # families of cells and facets are numbered together, from -1 downwards
        families = {
            (k, tag): -1 - n for n, (k, tag) in enumerate((k, t) for k in (0, 1) for t in names[k].values())
        }
        mesh.cell_data = {
            "cell_tags": [
                _replaced(t, {g: f for (j, g), f in families.items() if j == k}) for k, t in enumerate(tags)
            ]
        }
        mesh.cell_tags = {families[k, tag]: [name] for k in (0, 1) for name, tag in names[k].items()}
    elif suffix == ".inp":
        for k in range(len(blocks)):
            for name, tag in names[k].items():
                parts = [np.empty(0, np.int64) for _ in blocks]
                parts[k] = np.flatnonzero(tags[k] == tag)
                mesh.cell_sets[name] = parts
    else:
        for k, prefix in enumerate((CELL_GROUP, FACET_GROUP)):
            for name, tag in names[k].items():
                marks = [np.zeros(len(t), np.int8) for t in tags]
                if k < len(marks):
                    marks[k] = (tags[k] == tag).astype(np.int8)
                mesh.cell_data[prefix + name] = marks
    return mesh


def _replaced(tags: npt.NDArray[np.int32], numbers: dict[int, int]) -> Integers:
    out = np.zeros(len(tags), dtype=np.int64)
    for old, new in numbers.items():
        out[tags == old] = new
    return out


def _block(cell_type: str, degree: int, cells: Integers) -> tuple[str, Integers]:
    order = np.argsort(vtk_order(cell_type, cells.shape[1]))
    return _CELLS[cell_type][degree - 1], cells[:, order]


def _facets(arrays: MeshArrays) -> Integers:
    """Return all nodes of the tagged facets, (facets, nodes), in the order of their cells."""
    if arrays.degree == 1:
        return arrays.facets
    topology = Topology(arrays)
    facets, cell_facets = topology.entities(arrays.tdim - 1)
    place = np.empty(len(facets), dtype=np.int64)
    place[cell_facets.reshape(-1)] = np.arange(cell_facets.size)
    cells, local = np.divmod(place[topology.named_facets], cell_facets.shape[1])
    return np.asarray(arrays.cells[cells[:, None], reference.facet_nodes(arrays.cell_type, 2)[local]])


def _compare(arrays: MeshArrays, written: Path, path: Path) -> list[str]:
    """Read back what was written; say which names were lost.

    Raises:
        SponError: it is another mesh.
    """
    try:
        back = read_arrays(written)
    except SponError as error:
        detail = str(error).removeprefix(f"{written}: ")
        raise SponError(f"{path}: this format cannot hold the mesh: {detail}") from error
    same = (
        back.cell_type == arrays.cell_type
        and back.cells.shape == arrays.cells.shape
        and back.points.shape == arrays.points.shape
    )
    if not same:
        raise SponError(
            f"{path}: this format cannot hold the mesh: {len(back.cells)} {back.cell_type} cells on "
            f"{len(back.points)} nodes came back of {len(arrays.cells)} {arrays.cell_type} cells on {len(arrays.points)}"
        )
    notes = []
    for what, a, b in (
        ("cell groups", _sizes(arrays.cell_names, arrays.cell_tags), _sizes(back.cell_names, back.cell_tags)),
        (
            "boundaries",
            _sizes(arrays.facet_names, arrays.facet_tags),
            _sizes(back.facet_names, back.facet_tags),
        ),
    ):
        lost = sorted(name for name, size in a.items() if b.get(name) != size)
        if lost:
            notes.append(f"{path.suffix} files cannot keep these {what}: {', '.join(lost)}")
    none = int((arrays.cell_tags < 0).sum())
    if none and not (back.cell_tags < 0).any():
        other = next((n for n in back.cell_names if n not in arrays.cell_names), "none")
        notes.append(f"{none} cells in no group came into the group '{other}'")
    scale = np.abs(arrays.points).max()
    error = np.abs(back.points - arrays.points).max() / scale if scale else 0.0
    if error > 1e-14:
        notes.append(f"{path.suffix} files keep coordinates to a relative {error:.0e}")
    return notes


def _sizes(names: dict[str, int], tags: npt.NDArray[np.int32]) -> dict[str, int]:
    return {name: int((tags == tag).sum()) for name, tag in names.items() if (tags == tag).any()}
