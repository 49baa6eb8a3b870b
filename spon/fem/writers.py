"""Write meshes to files that `read_arrays` reads back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import MissingDependencyError, SponError
from spon.fem.arrays import MeshArrays
from spon.fem.meshio_mesh import to_meshio
from spon.fem.meshio_reader import suffixes
from spon.fem.readers import read_arrays
from spon.files import replacing
from spon.quiet import quiet

__all__ = ["write_arrays"]


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
    mesh = to_meshio(arrays, path.suffix)
    options: dict[str, Any] = {"file_format": "gmsh22"} if path.suffix == ".msh" else {}
    with replacing(path) as temporary:
        with quiet(f"{path}: meshio cannot write this mesh"):
            meshio.write(temporary, mesh, **options)
        notes = _compare(arrays, temporary, path)
        for extra in sorted(temporary.parent.iterdir()):  # the .h5 of an .xdmf
            if extra != temporary:
                extra.replace(path.parent / extra.name)
    return notes


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
    scale = np.abs(arrays.points).max()
    same = (
        back.cell_type == arrays.cell_type
        and np.array_equal(back.cells, arrays.cells)
        and back.points.shape == arrays.points.shape
        and np.allclose(back.points, arrays.points, rtol=0, atol=1e-5 * scale)
    )
    if not same:
        raise SponError(
            f"{path}: this format cannot hold the mesh: {len(arrays.cells)} {arrays.cell_type} cells with "
            f"{len(arrays.points)} nodes came back as {len(back.cells)} {back.cell_type} cells with "
            f"{len(back.points)} nodes, in another order or in other places"
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
    gap = np.abs(back.points - arrays.points).max() / scale
    if gap > 1e-14:
        notes.append(f"{path.suffix} files keep coordinates to a relative {gap:.0e}")
    return notes


def _sizes(names: dict[str, int], tags: npt.NDArray[np.int32]) -> dict[str, int]:
    return {name: int((tags == tag).sum()) for name, tag in names.items() if (tags == tag).any()}
