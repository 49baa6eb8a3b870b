"""The steps of files of fields, as meshio has them; needs no DOLFINx."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from spon.errors import MissingDependencyError, SponError
from spon.quiet import quiet

__all__ = ["SUFFIXES", "plane", "same_mesh", "steps"]

SUFFIXES = (".vtu", ".vtk", ".xdmf", ".xmf", ".pvd")

Array = npt.NDArray[Any]


def plane(values: Array, gdim: int) -> Array:
    """Drop the third component that files give to plane vectors, where it is zero."""
    if gdim == 2 and values.ndim == 3 and values.shape[2] == 3 and not values[..., 2].any():
        return values[..., :2]
    return values


def same_mesh(a: Any, b: Any) -> bool:
    """Whether two steps have the same nodes and cells in the same order."""
    if a.points is b.points:
        return True
    blocks = len(a.cells) == len(b.cells) and all(
        p.type == q.type and np.array_equal(p.data, q.data) for p, q in zip(a.cells, b.cells, strict=True)
    )
    return blocks and np.array_equal(a.points, b.points)


def steps(paths: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Yield what to call it, and a `meshio.Mesh`, for each sample."""
    try:
        import meshio
        from meshio.xdmf import TimeSeriesReader
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {paths[0]} needs meshio ({error}): pip install meshio"
        ) from error
    for path in paths:
        if not path.is_file():
            raise SponError(f"no such file: {path}")
        if path.suffix == ".pvd":
            yield from steps(_collection(path))
        elif path.suffix in (".xdmf", ".xmf") and _temporal(path):
            with quiet(f"{path}: meshio cannot read it"):
                reader = TimeSeriesReader(path)
                points, cells = reader.read_points_cells()
            with reader:
                for number in range(reader.num_steps):
                    with quiet(f"{path}: meshio cannot read step {number}"):
                        _, at_points, in_cells = reader.read_data(number)
                        step = meshio.Mesh(points, cells, at_points, in_cells)
                    step.points = points
                    yield f"{path} step {number}", step
        else:
            with quiet(f"{path}: meshio cannot read it"):
                step = meshio.read(path)
            yield str(path), step


def _collection(path: Path) -> list[Path]:
    sets = _xml(path).findall("./Collection/DataSet")
    files = [path.parent / s.get("file", "") for s in sets]
    if not files:
        raise SponError(f"{path}: lists no files")
    wrong = next((f for f in files if f.suffix not in (".vtu", ".vtk")), None)
    if wrong is not None:
        raise SponError(f"{path}: lists {wrong.name}; allowed: .vtu, .vtk")
    return files


def _temporal(path: Path) -> bool:
    return any(g.get("CollectionType") == "Temporal" for g in _xml(path).iter("Grid"))


def _xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise SponError(f"{path}: not a readable XML file: {error}") from error
