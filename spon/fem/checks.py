"""What makes a mesh unusable, found before DOLFINx sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spon.errors import SponError
from spon.fem import reference
from spon.fem.rows import row_keys

if TYPE_CHECKING:
    from spon.fem.arrays import MeshArrays

__all__ = ["check"]


def check(arrays: MeshArrays) -> None:
    """Refuse a mesh that cannot be computed on.

    Raises:
        SponError: the first thing found, as `MeshArrays` lists them.
    """
    _check_kind(arrays)
    _check_points(arrays)
    _check_duplicates(arrays)
    _check_shapes(arrays)
    _check_facets(arrays)


def _check_kind(arrays: MeshArrays) -> None:
    if arrays.cell_type not in reference.CELL_TYPES:
        allowed = ", ".join(reference.CELL_TYPES)
        raise SponError(f"{arrays.source}: cells are {arrays.cell_type}; allowed: {allowed}")
    if len(arrays.cells) == 0:
        raise SponError(f"{arrays.source}: has no cells")
    nodes = reference.NODES[arrays.cell_type]
    if arrays.cells.shape[1] not in nodes:
        raise SponError(
            f"{arrays.source}: a {arrays.cell_type} has {arrays.cells.shape[1]} nodes; allowed: "
            f"{nodes[0]} (first order) or {nodes[1]} (second order)"
        )
    if arrays.gdim != arrays.tdim:
        raise SponError(
            f"{arrays.source}: points have {arrays.gdim} coordinates; allowed for "
            f"{arrays.cell_type}: {arrays.tdim}"
        )


def _check_points(arrays: MeshArrays) -> None:
    bad = ~np.isfinite(arrays.points).all(axis=1)
    if bad.any():
        raise SponError(
            f"{arrays.source}: {np.count_nonzero(bad)} points have a coordinate that is not finite, "
            f"the first is point {np.argmax(bad)}"
        )
    low, high, n = int(arrays.cells.min()), int(arrays.cells.max()), len(arrays.points)
    if low < 0 or high >= n:
        wrong = low if low < 0 else high
        raise SponError(
            f"{arrays.source}: a cell refers to a point that does not exist: {wrong}; allowed: 0 to {n - 1}"
        )
    used = np.zeros(n, dtype=bool)
    used[arrays.cells] = True
    if not used.all():
        raise SponError(f"{arrays.source}: {np.count_nonzero(~used)} points belong to no cell")


def _check_duplicates(arrays: MeshArrays) -> None:
    key = row_keys(np.sort(arrays.corners, axis=1))
    ordered = np.sort(key)
    if (ordered[1:] != ordered[:-1]).all():
        return
    _, first = np.unique(key, return_index=True)
    extra = np.setdiff1d(np.arange(len(key)), first)
    raise SponError(
        f"{arrays.source}: {len(extra)} duplicate cells: cell {extra[0]} has the corners of cell "
        f"{np.argmax(key == key[extra[0]])}"
    )


def _check_shapes(arrays: MeshArrays) -> None:
    x = np.ascontiguousarray(arrays.points[arrays.cells].transpose(0, 2, 1))
    size = np.ptp(x, axis=2).max(axis=1)
    # what round-off in the coordinates leaves of a determinant that is zero
    tolerance = 64 * np.finfo(float).eps * (size + np.abs(x).max(axis=(1, 2))) * size ** (arrays.tdim - 1)
    at = reference.lattice(arrays.cell_type, arrays.degree + 1)
    if arrays.degree == 1 and arrays.cell_type in ("triangle", "tetrahedron"):
        at = at[:1]  # the Jacobian is constant
    low, high = np.full(len(x), np.inf), np.full(len(x), -np.inf)
    for gradients in reference.tabulate(arrays.cell_type, arrays.degree, at)[1]:
        det = reference.determinants(reference.jacobians(x, gradients))
        np.minimum(low, det, out=low)
        np.maximum(high, det, out=high)
    folded = (low < -tolerance) & (high > tolerance)
    flat = ~folded & (np.minimum(np.abs(low), np.abs(high)) <= tolerance)
    for wrong, what in (
        (folded, "inverted: they fold over themselves"),
        (flat, "degenerate: they are flat"),
    ):
        if wrong.any():
            cell = int(np.argmax(wrong))
            where = ", ".join(f"{c:.6g}" for c in arrays.centroids[cell])
            raise SponError(
                f"{arrays.source}: {np.count_nonzero(wrong)} cells are {what}; the first is cell {cell} "
                f"at ({where})"
            )


def _check_facets(arrays: MeshArrays) -> None:
    if len(arrays.facets) == 0:
        return
    width = reference.facet_corners(arrays.cell_type).shape[1]
    if arrays.facets.shape[1] != width:
        raise SponError(
            f"{arrays.source}: a facet has {arrays.facets.shape[1]} corners; allowed for "
            f"{arrays.cell_type}: {width}"
        )
    key = np.sort(arrays.facets, axis=1)
    if key.min() < 0 or key.max() >= len(arrays.points):
        raise SponError(f"{arrays.source}: a named facet refers to a point that does not exist")
    on_facet = np.zeros(len(arrays.points), dtype=bool)
    on_facet[key] = True
    sides = arrays.sides[on_facet[arrays.sides].all(axis=2)]
    number = row_keys(np.concatenate([key, np.sort(sides, axis=1)]))
    own, others = number[: len(key)], number[len(key) :]
    alone = ~np.isin(own, others)
    if alone.any():
        raise SponError(f"{arrays.source}: {np.count_nonzero(alone)} named facets belong to no cell")
    unique, count = np.unique(own, return_counts=True)
    if (count > 1).any():
        tags = set(arrays.facet_tags[own == unique[count > 1][0]].tolist())
        names = sorted(n for n, t in arrays.facet_names.items() if t in tags)
        raise SponError(f"{arrays.source}: a facet belongs to more than one boundary: {', '.join(names)}")
