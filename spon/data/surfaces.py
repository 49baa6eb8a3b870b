"""What matplotlib draws of a mesh: triangles in the plane, the surface of a body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.level import Level

__all__ = ["Surface", "corner_facets"]

Array = npt.NDArray[Any]

# triangles between the nodes of a cell, by type and degree, in the reference order of DOLFINx
_TRIANGLES = {
    ("triangle", 1): [[0, 1, 2]],
    ("triangle", 2): [[0, 5, 4], [5, 1, 3], [4, 3, 2], [5, 3, 4]],
    ("quadrilateral", 1): [[0, 1, 3], [0, 3, 2]],
    ("quadrilateral", 2): [
        *([0, 4, 8], [0, 8, 5], [4, 1, 6], [4, 6, 8]),
        *([5, 8, 7], [5, 7, 2], [8, 6, 3], [8, 3, 7]),
    ],
}
_FACES = {
    "tetrahedron": [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]],
    "hexahedron": [[0, 1, 3, 2], [0, 1, 5, 4], [0, 2, 6, 4], [1, 3, 7, 5], [2, 3, 7, 6], [4, 5, 7, 6]],
}
_CORNERS = {"triangle": 3, "quadrilateral": 4, "tetrahedron": 4, "hexahedron": 8}


@dataclass(frozen=True)
class Surface:
    """Polygons with the cell that each belongs to.

    Args:
        points: (nodes, gdim) of the features.
        polygons: (polygons, corners) nodes, in the order of the rim.
        owners: (polygons,) cell.
        cells: number of cells of the mesh.
    """

    points: Array
    polygons: Array
    owners: Array
    cells: int

    @classmethod
    def of(cls, level: Level) -> Surface:
        """Return the triangles of a plane mesh, or the faces of a body that belong to one cell alone.

        Args:
            level: the finest one.
        """
        kind, degree, count = level.reference.cell_type, level.reference.degree, len(level.cells)
        if level.gdim == 2:
            local = np.array(_TRIANGLES[kind, degree if (kind, degree) in _TRIANGLES else 1])
            polygons = level.cells[:, local].reshape(-1, 3)
            return cls(level.points, polygons, np.repeat(np.arange(count), len(local)), count)
        corners = level.cells[:, : _CORNERS[kind]]
        local = np.array(_FACES[kind])
        faces = corners[:, local].reshape(-1, local.shape[1])
        _, first, times = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
        outside = np.sort(first[times == 1])
        return cls(level.points, faces[outside], outside // len(local), count)

    @property
    def gdim(self) -> int:
        """Dimension of the points."""
        return int(self.points.shape[1])

    @property
    def aspect(self) -> tuple[float, float]:
        """Width and height of the picture, in one unit."""
        if self.gdim == 3:
            return (1.0, 0.9)
        width, height = np.ptp(self.points, axis=0)
        return float(width), float(height)

    def draw_nodes(self, axis: Any, values: Array, style: dict[str, Any]) -> Any:
        """Draw values at the nodes, (nodes,)."""
        if self.gdim == 3:
            return self._solid(axis, values[self.polygons].mean(axis=1), style)
        return axis.tripcolor(*self.points.T, self.polygons, values, shading="gouraud", **style)

    def draw_cells(self, axis: Any, values: Array, style: dict[str, Any]) -> Any:
        """Draw values in the cells, (cells,)."""
        if self.gdim == 3:
            return self._solid(axis, values[self.owners], style)
        return axis.tripcolor(*self.points.T, self.polygons, facecolors=values[self.owners], **style)

    def draw_facets(self, axis: Any, facets: Array, values: Array, style: dict[str, Any]) -> Any:
        """Draw values on facets of a boundary, over the mesh in grey.

        Args:
            axis: of matplotlib.
            facets: (facets, corners) in the order of the rim.
            values: (facets,).
            style: colour map and scale.
        """
        from matplotlib.collections import LineCollection
        from matplotlib.colors import Normalize

        if self.gdim == 3:
            body = {"cmap": "Greys", "norm": Normalize(-1, 9)}
            self._solid(axis, np.zeros(len(self.polygons)), body, alpha=0.1)
            return self._solid(axis, values, style, facets)
        axis.tripcolor(
            *self.points.T,
            self.polygons,
            facecolors=np.zeros(len(self.polygons)),
            cmap="Greys",
            vmin=-1,
            vmax=9,
        )
        lines = LineCollection(self.points[facets], linewidths=5, capstyle="round", **style)
        lines.set_array(values)
        return axis.add_collection(lines)

    def _solid(
        self,
        axis: Any,
        values: Array,
        style: dict[str, Any],
        polygons: Array | None = None,
        alpha: float = 1.0,
    ) -> Any:
        from matplotlib.cm import ScalarMappable
        from mpl_toolkits.mplot3d.art3d import Poly3DCollection

        colours = ScalarMappable(**style)
        corners = self.points[self.polygons if polygons is None else polygons]
        faces = colours.to_rgba(values, alpha)
        axis.add_collection3d(  # edges in the same colour close the seams of antialiasing
            Poly3DCollection(corners, facecolors=faces, edgecolors=faces, linewidths=0.4, shade=False)
        )
        return colours

    def frame(self, axis: Any) -> None:
        """Fit the axes to the mesh, without ticks."""
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        if self.gdim == 3:
            axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
            axis.set_box_aspect(high - low)
            axis.set_axis_off()
            return
        margin = 0.02 * float((high - low).max())
        axis.set(
            aspect="equal",
            xticks=[],
            yticks=[],
            xlim=(low[0] - margin, high[0] + margin),
            ylim=(low[1] - margin, high[1] + margin),
        )
        axis.set_frame_on(False)


def corner_facets(facets: Array) -> Array:
    """Return facets with their corners in the order of the rim; quadrilaterals come in tensor order."""
    return facets[:, [0, 1, 3, 2]] if facets.shape[1] == 4 else facets
