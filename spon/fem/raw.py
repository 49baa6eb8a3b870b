"""From what a file holds to `MeshArrays`: the part that is the same for every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spon.errors import SponError
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.rows import unique_rows
from spon.fem.serendipity import SERENDIPITY, complete

__all__ = ["Group", "RawMesh", "to_arrays"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """A named set of cells or facets.

    Attributes:
        name: physical name.
        members: numbers of its cells or facets in the file.
        tag: number of the group in the file; None: the next free one.
    """

    name: str
    members: Integers
    tag: int | None = None


@dataclass(frozen=True)
class RawMesh:
    """What a file holds, nodes and corners in DOLFINx's order.

    Attributes:
        points: (points, 2 or 3) float64; some may belong to no cell.
        cell_type: as in `MeshArrays`.
        cells: (cells, nodes) int64, serendipity cells too.
        cell_groups: cells in no group get the tag -1.
        facets: (facets, corners) int64; those in no group are dropped.
        facet_groups: boundaries.
        source: file.
    """

    points: npt.NDArray[np.float64]
    cell_type: str
    cells: Integers
    cell_groups: Sequence[Group]
    facets: Integers
    facet_groups: Sequence[Group]
    source: str


def to_arrays(raw: RawMesh, drop_unused: bool) -> MeshArrays:
    """Complete serendipity cells, drop z where it is constant, and points that no cell has where allowed.

    Args:
        raw: what a file holds.
        drop_unused: drop points that belong to no cell; else they are refused, since arrays with a
            value for each point of the file would no longer fit.

    Raises:
        SponError: points that belong to no cell, overlapping groups, a surface in 3-D space, plane
            points of a body, or what `MeshArrays` refuses.
    """
    source, tdim = raw.source, reference.nodes(raw.cell_type, 1).shape[1]
    n = len(raw.points)
    for numbers, what in ((raw.cells, "cell"), (raw.facets, "facet")):
        low, high = int(numbers.min(initial=0)), int(numbers.max(initial=0))
        if low < 0 or high >= n:
            wrong = low if low < 0 else high
            raise SponError(
                f"{source}: a {what} refers to a point that does not exist: {wrong}; allowed: 0 to {n - 1}"
            )
    cell_tags, cell_names = _tags(
        raw.cell_groups, len(raw.cells), f"{source}: a cell belongs to more than one group"
    )
    facet_tags, facet_names = _tags(
        raw.facet_groups, len(raw.facets), f"{source}: a facet belongs to more than one boundary"
    )
    points, cells = raw.points, raw.cells
    if cells.shape[1] == SERENDIPITY.get(raw.cell_type):
        points, cells = complete(raw.cell_type, points, cells)
    used = np.zeros(len(points), dtype=bool)
    used[cells] = True
    number = np.cumsum(used) - 1
    tagged = np.flatnonzero(facet_tags >= 0)
    facets, facet_tags = _distinct(raw.facets[tagged], facet_tags[tagged])
    if not used[facets].all():
        raise SponError(f"{source}: a named boundary has points that no cell has")
    if not (drop_unused or used.all()):
        raise SponError(
            f"{source}: {np.count_nonzero(~used)} points belong to no cell, the first is point "
            f"{np.argmin(used)}; `spon mesh convert --drop-unused` makes a mesh without them"
        )
    return MeshArrays(
        points=_coordinates(points[used], tdim, raw),
        cells=number[cells],
        cell_type=raw.cell_type,
        cell_tags=cell_tags,
        facets=number[facets],
        facet_tags=facet_tags,
        cell_names=cell_names,
        facet_names=facet_names,
        source=source,
    )


def _coordinates(points: npt.NDArray[np.float64], tdim: int, raw: RawMesh) -> npt.NDArray[np.float64]:
    gdim = points.shape[1]
    if gdim < tdim:
        raise SponError(f"{raw.source}: points have {gdim} coordinates; allowed for {raw.cell_type}: {tdim}")
    if gdim > tdim and np.isfinite(points).all() and np.ptp(points[:, 2]) > 0.0:
        kind = f"{raw.cell_type}s"
        raise SponError(f"{raw.source}: {kind} in 3-D space; spon needs a mesh in the plane z = const")
    if not np.isfinite(points[:, tdim:]).all():
        raise SponError(f"{raw.source}: a point has a z coordinate that is not finite")
    return np.ascontiguousarray(points[:, :tdim], dtype=np.float64)


def _tags(groups: Sequence[Group], n: int, clash: str) -> tuple[npt.NDArray[np.int32], dict[str, int]]:
    """Return tags (n,), -1 in no group, and the tag of each name; groups of one name are one group."""
    names: dict[str, int] = {}
    free = max([0, *(g.tag for g in groups if g.tag is not None)])
    tags = np.full(n, -1, dtype=np.int32)
    for group in groups:
        if group.name not in names:
            free += group.tag is None
            names[group.name] = free if group.tag is None else group.tag
        tag = names[group.name]
        other = tags[group.members]
        other = other[(other != -1) & (other != tag)]
        if len(other):
            first = next(name for name, known in names.items() if known == other[0])
            raise SponError(f"{clash}: {first}, {group.name}")
        tags[group.members] = tag
    return tags, names


def _distinct(facets: Integers, tags: npt.NDArray[np.int32]) -> tuple[Integers, npt.NDArray[np.int32]]:
    """Drop facets that are there twice in one boundary, as between two meshed parts."""
    if len(facets) == 0:
        return facets, tags
    _, number = unique_rows(np.column_stack([np.sort(facets, axis=1), tags]))
    first = np.sort(np.unique(number, return_index=True)[1])
    return facets[first], tags[first]
