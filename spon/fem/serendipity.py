"""Complete serendipity cells: quadrilaterals of 8 nodes become 9, hexahedra of 20 become 27."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spon.fem import reference
from spon.fem.rows import unique_rows

__all__ = ["SERENDIPITY", "complete"]

SERENDIPITY = {"quadrilateral": 8, "hexahedron": 20}

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def complete(cell_type: str, points: Floats, cells: Integers) -> tuple[Floats, Integers]:
    """Add the missing nodes where the serendipity map has them, so that the geometry stays the same.

    The centre of a face is −¼ Σ corners + ½ Σ midsides, that of a hexahedron −¼ Σ corners + ¼ Σ midsides:
    the serendipity basis at the centre (Zienkiewicz, Taylor & Zhu, The Finite Element Method, §6.6).

    Args:
        cell_type: "quadrilateral" or "hexahedron".
        points: (points, gdim).
        cells: (cells, 8 or 20), in DOLFINx's order of the nodes on corners and edges.

    Returns:
        The points, new ones last: of faces in lexicographic order of their sorted corners, one for both
        cells of a face, then of cells; and the cells, (cells, 9 or 27).
    """
    corners, edges = 2 ** (2 if cell_type == "quadrilateral" else 3), reference.edge_corners(cell_type)
    parts, columns = [points], [cells]
    n = len(points)
    if cell_type == "hexahedron":
        faces = reference.facet_corners(cell_type)
        rims = np.array(
            [[corners + e for e, ends in enumerate(edges) if np.isin(ends, f).all()] for f in faces]
        )
        unique, number = unique_rows(np.sort(cells[:, faces].reshape(-1, 4), axis=1))
        first = np.empty(len(unique), dtype=np.int64)
        first[number[::-1]] = np.arange(len(number))[::-1]
        around = cells[:, rims].reshape(-1, 4)[first]
        parts.append(-0.25 * points[unique].sum(axis=1) + 0.5 * points[around].sum(axis=1))
        columns.append(n + number.reshape(-1, len(faces)))
        n += len(unique)
    weight = 0.5 if cell_type == "quadrilateral" else 0.25
    middle = -0.25 * points[cells[:, :corners]].sum(axis=1) + weight * points[cells[:, corners:]].sum(axis=1)
    columns.append(n + np.arange(len(cells))[:, None])
    return np.concatenate([*parts, middle]), np.concatenate(columns, axis=1)
