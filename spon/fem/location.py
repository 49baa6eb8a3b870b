"""Find the cells that points lie in, on the whole input mesh and without MPI."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import basix
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from spon.errors import SponError
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.boxes import Boxes, control_points
from spon.fem.closest import clipped, closest
from spon.fem.geometry import Geometry
from spon.fem.mesh import TaggedMesh
from spon.fem.topology import REFERENCE
from spon.fem.transfer import Location

__all__ = ["Locator", "locator"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_STEPS = 20


class Locator:
    """Points to cells and reference coordinates, on any mesh: curved, graded, stretched.

    A tree of bounding boxes gives all the cells that may hold a point, Newton's method the reference
    coordinates there. The answer depends on mesh and points alone, so it is the same on every rank.

    Args:
        mesh: `TaggedMesh`, `Geometry` or `MeshArrays`.
    """

    def __init__(self, mesh: TaggedMesh | Geometry | MeshArrays) -> None:
        if isinstance(mesh, TaggedMesh):
            mesh = mesh.geometry
        self.geometry = Geometry(mesh) if isinstance(mesh, MeshArrays) else mesh
        arrays = self.geometry.arrays
        self.simplex = arrays.cell_type in ("triangle", "tetrahedron")
        self.extent = float(np.ptp(arrays.points, axis=0).max())
        self.roundoff = 1e-13 * max(self.extent, float(np.abs(arrays.points).max()))
        hull = control_points(arrays)
        self.boxes = Boxes(hull.min(axis=1), hull.max(axis=1))
        self._affine = None
        if self.geometry.affine:
            corners = arrays.points[arrays.cells]
            slopes = (corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1)
            self._affine = corners[:, 0], np.linalg.inv(slopes)

    def find(self, points: Floats, tolerance: float | None = None, outside: str = "refuse") -> Location:
        """Return the cell and the reference coordinates of each point.

        A point on a facet goes to the cell of the lowest number, a point outside the mesh to the
        nearest cell, at its nearest point there.

        Args:
            points: (n, gdim).
            tolerance: length by which a point may be outside. Default: 1e-9 of the extent of the
                mesh, or any length with `outside="nearest"`.
            outside: "refuse" or "nearest", for points outside by more than round-off.

        Returns:
            Cells (n,) and X (n, tdim) in the reference cell.

        Raises:
            SponError: points of another shape or not finite, another word for `outside`, or points
                that are outside by more than the tolerance.
        """
        x = self._checked(points)
        if outside not in ("refuse", "nearest"):
            raise SponError(f"outside='{outside}'; allowed: 'refuse', 'nearest'")
        if tolerance is None:
            tolerance = np.inf if outside == "nearest" else 1e-9 * self.extent
        cells, X = self._containing(x)
        lost = np.flatnonzero(cells < 0)
        if len(lost):
            cells[lost], X[lost], distance = self._nearest(x[lost])
            worst = int(distance.argmax())
            if distance[worst] > tolerance:
                where = ", ".join(f"{value:g}" for value in x[lost[worst]])
                raise SponError(
                    f"{int((distance > tolerance).sum())} of {len(x)} points lie outside "
                    f"{self.geometry.arrays.source}: ({where}) by {distance[worst]:.3g}; "
                    f"allowed: {tolerance:.3g}"
                )
        return Location(cells, X)

    def _checked(self, points: Floats) -> Floats:
        x = np.asarray(points, dtype=np.float64)
        gdim = self.geometry.arrays.gdim
        if x.ndim != 2 or x.shape[1] != gdim:
            raise SponError(f"points of shape {x.shape}; allowed: (n, {gdim})")
        if not np.isfinite(x).all():
            bad = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
            raise SponError(f"point {bad} has coordinates {tuple(map(float, x[bad]))}; allowed: finite ones")
        return x

    def _containing(self, x: Floats) -> tuple[Integers, Floats]:
        """Return the lowest cell that holds each point up to round-off, or -1, and X."""
        cells, X = np.full(len(x), -1), np.zeros(x.shape)
        for start in (_middle,) if self._affine else (_middle, _nearest_of_lattice):
            left = np.flatnonzero(cells < 0)
            for which, candidates in self.boxes.around(x[left], self.roundoff):
                which = left[which]
                there = self._solved(candidates, x[which], start(self.geometry, candidates, x[which]))
                inside = np.flatnonzero(np.abs(there - clipped(there, self.simplex)).max(axis=1) < 0.1)
                which, candidates, there = (
                    which[inside],
                    candidates[inside],
                    clipped(there[inside], self.simplex),
                )
                gap = np.linalg.norm(x[which] - self.geometry.points(candidates, there), axis=1)
                inside = np.flatnonzero(gap <= self.roundoff)
                found, chosen = _lowest(which[inside], candidates[inside])
                cells[found], X[found] = candidates[inside][chosen], there[inside][chosen]
        return cells, X

    def _solved(self, cells: Integers, x: Floats, X: Floats) -> Floats:
        """Solve F_K(X) = x by Newton's method, as far as X stays near the reference cell."""
        if self._affine is not None:
            origin, inverse = self._affine
            X = np.einsum("nij,nj->ni", inverse[cells], x - origin[cells])
            near = np.flatnonzero(np.abs(X - 0.5).max(axis=1) < 0.6)
            residual = x[near] - self.geometry.points(cells[near], X[near])
            X[near] += np.einsum("nij,nj->ni", inverse[cells[near]], residual)
            return X
        active = np.arange(len(cells))
        for _ in range(_STEPS):
            c, old = cells[active], X[active]
            residual = x[active] - self.geometry.points(c, old)
            J = self.geometry.jacobians(c, old)
            J[np.linalg.det(J) == 0] = np.eye(x.shape[1])
            X[active] = np.clip(old + np.linalg.solve(J, residual[:, :, None])[:, :, 0], -0.5, 1.5)
            active = active[np.abs(X[active] - old).max(axis=1, initial=0.0) > 1e-15]
            if len(active) == 0:
                break
        return X

    def _nearest(self, x: Floats) -> tuple[Integers, Floats, Floats]:
        """Return the lowest of the nearest cells, X of its nearest point, and the distance."""
        cells, X, distance = np.full(len(x), -1), np.zeros(x.shape), np.full(len(x), np.inf)
        bound = self._nodes.query(x)[0]  # nodes belong to the mesh, so it is as near as that
        for which, candidates in self.boxes.around(x, bound + self.roundoff):
            there, gap = closest(self.geometry, candidates, x[which])
            y = self.geometry.points(candidates, there)
            first, nearest = _lowest(which, gap)
            place = np.zeros(x.shape)
            place[first] = y[nearest]
            same = np.flatnonzero(np.linalg.norm(y - place[which], axis=1) <= 10 * self.roundoff)
            found, chosen = _lowest(which[same], candidates[same])
            chosen = same[chosen]
            cells[found], X[found], distance[found] = candidates[chosen], there[chosen], gap[chosen]
        return cells, X, distance

    @cached_property
    def _nodes(self) -> Any:
        return cKDTree(self.geometry.arrays.points)


@lru_cache(maxsize=2)
def locator(geometry: Geometry) -> Locator:
    """Return the locator of a mesh, kept for the last two meshes."""
    return Locator(geometry)


def _lowest(which: Integers, values: Integers | Floats) -> tuple[Integers, Integers]:
    """Return the points that have values, and the position of the lowest one of each."""
    order = np.lexsort((values, which))
    found, first = np.unique(which[order], return_index=True)
    return found, order[first]


def _middle(geometry: Geometry, cells: Integers, x: Floats) -> Floats:
    corners = basix.geometry(REFERENCE[geometry.arrays.cell_type])
    return np.tile(corners.mean(axis=0), (len(cells), 1))


def _nearest_of_lattice(geometry: Geometry, cells: Integers, x: Floats) -> Floats:
    """Return a start for distorted cells, where Newton's method from the middle goes astray."""
    lattice = reference.lattice(geometry.arrays.cell_type, 4)
    best, distance = np.zeros(len(cells), np.int64), np.full(len(cells), np.inf)
    for number, X in enumerate(lattice):
        gap = np.linalg.norm(x - geometry.points(cells, np.tile(X, (len(cells), 1))), axis=1)
        closer = gap < distance
        best[closer], distance[closer] = number, gap[closer]
    return np.asarray(lattice[best])
