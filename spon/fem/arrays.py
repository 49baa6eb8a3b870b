"""A mesh as plain arrays: what a file holds, before DOLFINx distributes and renumbers it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spon.errors import SponError
from spon.fem import reference
from spon.fem.checks import check

__all__ = ["MeshArrays"]


@dataclass(frozen=True)
class MeshArrays:
    """A mesh in the order of its input, which defines spon's canonical numbering.

    Args:
        points: (points, gdim) float64, every one used by a cell; several may coincide, as on cracks.
        cells: (cells, nodes) int64, in DOLFINx's order of Lagrange nodes, so the corners come first.
            The number of nodes says the degree of the geometry: triangle 3 or 6, quadrilateral
            4 or 9, tetrahedron 4 or 10, hexahedron 8 or 27.
        cell_type: "triangle", "quadrilateral", "tetrahedron" or "hexahedron".
        cell_tags: (cells,) int32, -1 where a cell has no physical group.
        facets: (tagged facets, corners) int64, in DOLFINx's order of corners.
        facet_tags: (tagged facets,) int32.
        cell_names: tag of each named group of cells.
        facet_names: tag of each named group of facets.
        source: file the mesh came from, for messages.

    Raises:
        SponError: NaN coordinates, a point number out of range, unused points, a cell that is there
            twice, is flat or folds over itself, or a facet that belongs to no cell or to two named
            boundaries.
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
        check(self)

    @property
    def gdim(self) -> int:
        """Geometric dimension."""
        return int(self.points.shape[1])

    @property
    def tdim(self) -> int:
        """Topological dimension."""
        return reference.nodes(self.cell_type, 1).shape[1]

    @property
    def degree(self) -> int:
        """Degree of the geometry: 1 for straight cells, 2 for curved ones."""
        return 1 + reference.NODES[self.cell_type].index(self.cells.shape[1])

    @property
    def corners(self) -> npt.NDArray[np.int64]:
        """Corners of each cell, (cells, corners)."""
        return self.cells[:, : reference.NODES[self.cell_type][0]]

    @property
    def sides(self) -> npt.NDArray[np.int64]:
        """Corners of every facet of every cell, (cells, facets, corners of a facet)."""
        return self.cells[:, reference.facet_corners(self.cell_type)]

    @property
    def centroids(self) -> npt.NDArray[np.float64]:
        """Mean of the corners of each cell, (cells, gdim)."""
        return np.asarray(self.points[self.corners].mean(axis=1))

    def cells_named(self, name: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the cells of a named group.

        Raises:
            SponError: there is no such group, or no cell is in it.
        """
        if name not in self.cell_names:
            allowed = ", ".join(f"'{n}'" for n in self.cell_names) or "none"
            raise SponError(f"cell group '{name}' not found in {self.source}; it has: {allowed}")
        found = np.flatnonzero(self.cell_tags == self.cell_names[name])
        if len(found) == 0:
            raise SponError(f"cell group '{name}' of {self.source} has no cells")
        return found
