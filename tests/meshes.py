"""Small meshes of known geometry."""

from dataclasses import replace
from itertools import permutations

import numpy as np

from spon.fem import reference
from spon.fem.arrays import MeshArrays

SIDES = ("left", "right", "bottom", "top", "front", "back")  # x = 0, 1; y = 0, 1; z = 0, 1


def pieces(cell_type: str) -> np.ndarray:
    """Corners of the cells that make up a unit box, (cells, corners, tdim) of 0 and 1."""
    if cell_type in ("quadrilateral", "hexahedron"):
        return reference.nodes(cell_type, 1)[None].astype(int)
    eye = np.eye(2 if cell_type == "triangle" else 3, dtype=int)
    paths = [np.cumsum([0 * eye[0], *eye[list(p)]], axis=0) for p in permutations(range(len(eye)))]
    return np.array(paths)


def box(cell_type: str, n: int, degree: int = 1) -> MeshArrays:
    """Unit square or cube of n boxes in each direction, its sides named."""
    corners = pieces(cell_type)
    tdim = corners.shape[2]
    local = reference.tabulate(cell_type, 1, reference.nodes(cell_type, degree))[0]
    inside = np.rint(degree * local @ corners).astype(np.int64)  # (cells of a box, nodes, tdim)
    boxes = np.stack(np.meshgrid(*[np.arange(n)] * tdim, indexing="ij"), -1).reshape(-1, tdim)
    grid = degree * boxes[:, None, None] + inside
    cells = (grid @ (degree * n + 1) ** np.arange(tdim)).reshape(-1, inside.shape[1])
    axis = np.linspace(0, 1, degree * n + 1)
    points = np.stack(np.meshgrid(*[axis] * tdim, indexing="ij"), -1).reshape(-1, tdim)[:, ::-1]
    sides = cells[:, reference.facet_corners(cell_type)]
    sides = sides.reshape(-1, sides.shape[2])
    names = SIDES[: 2 * tdim]
    on = [(points[sides][:, :, k // 2] == k % 2).all(axis=1) for k in range(len(names))]
    return MeshArrays(
        points=np.ascontiguousarray(points),
        cells=cells,
        cell_type=cell_type,
        cell_tags=np.ones(len(cells), np.int32),
        facets=np.concatenate([sides[s] for s in on]),
        facet_tags=np.repeat(np.arange(1, len(names) + 1, dtype=np.int32), [s.sum() for s in on]),
        cell_names={"domain": 1},
        facet_names={name: k + 1 for k, name in enumerate(names)},
        source="box",
    )


def mapped(arrays: MeshArrays, function) -> MeshArrays:
    """The mesh with its points moved, (tdim, points) → (tdim, points)."""
    return replace(arrays, points=np.ascontiguousarray(np.stack(function(arrays.points.T), axis=1)))
