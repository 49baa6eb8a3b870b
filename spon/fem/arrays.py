"""A mesh as plain arrays: what a file holds, before DOLFINx distributes and renumbers it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spon.errors import SponError

__all__ = ["MeshArrays"]

_FACET_NODES = {"triangle": 2, "tetrahedron": 3}


@dataclass(frozen=True)
class MeshArrays:
    """A mesh in the order of its input, which defines spon's canonical numbering.

    Args:
        points: (points, gdim) float64, every one used by a cell.
        cells: (cells, vertices) int64, vertices in DOLFINx's order.
        cell_type: "triangle" or "tetrahedron" (first order).
        cell_tags: (cells,) int32, -1 where a cell has no physical group.
        facets: (tagged facets, vertices) int64.
        facet_tags: (tagged facets,) int32.
        cell_names: tag of each named group of cells.
        facet_names: tag of each named group of facets.
        source: file the mesh came from, for messages.

    Raises:
        SponError: NaN coordinates, a vertex number out of range, unused points, or a facet that
            belongs to no cell or to two named boundaries.
    """

    points: npt.NDArray[np.float64]
    cells: npt.NDArray[np.int64]
    cell_type: str
    cell_tags: npt.NDArray[np.int32]
    facets: npt.NDArray[np.int64]
    facet_tags: npt.NDArray[np.int32]
    cell_names: dict[str, int]
    facet_names: dict[str, int]
    source: str = "mesh"

    def __post_init__(self) -> None:
        if self.cell_type not in _FACET_NODES:
            allowed = ", ".join(_FACET_NODES)
            raise SponError(f"{self.source}: cells are {self.cell_type}; allowed: {allowed}")
        if not np.isfinite(self.points).all():
            raise SponError(f"{self.source}: a point has a coordinate that is not finite")
        used = np.zeros(len(self.points), dtype=bool)
        if len(self.cells) == 0:
            raise SponError(f"{self.source}: has no cells")
        if self.cells.min() < 0 or self.cells.max() >= len(self.points):
            raise SponError(f"{self.source}: a cell refers to a point that does not exist")
        used[self.cells] = True
        if not used.all():
            raise SponError(f"{self.source}: {np.count_nonzero(~used)} points belong to no cell")
        self._check_facets()

    def _check_facets(self) -> None:
        if len(self.facets) == 0:
            return
        key = np.sort(self.facets, axis=1)
        # number the vertices of named facets alone, so that a facet fits into one integer
        number = np.full(len(self.points), -1, dtype=np.int64)
        vertices = np.unique(key)
        number[vertices] = np.arange(len(vertices))
        sides = np.concatenate([np.delete(self.cells, v, axis=1) for v in range(self.cells.shape[1])])
        sides = number[np.sort(sides, axis=1)]
        sides = sides[(sides >= 0).all(axis=1)]
        powers = len(vertices) ** np.arange(key.shape[1])[::-1]
        alone = ~np.isin(number[key] @ powers, sides @ powers)
        if alone.any():
            raise SponError(f"{self.source}: {np.count_nonzero(alone)} named facets belong to no cell")
        _, first, count = np.unique(key, axis=0, return_index=True, return_counts=True)
        if (count > 1).any():
            facet = key[first[count > 1][0]]
            tags = set(self.facet_tags[(key == facet).all(axis=1)].tolist())
            names = sorted(n for n, t in self.facet_names.items() if t in tags)
            raise SponError(f"{self.source}: a facet belongs to more than one boundary: {', '.join(names)}")

    @property
    def gdim(self) -> int:
        """Geometric dimension."""
        return int(self.points.shape[1])

    @property
    def tdim(self) -> int:
        """Topological dimension."""
        return _FACET_NODES[self.cell_type]
