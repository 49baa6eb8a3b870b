"""From the nodes of a plane triangle mesh to a grid on its bounding box, and back."""

import numpy as np
import scipy.sparse as sp
import torch
from matplotlib.tri import Triangulation
from scipy.spatial import KDTree
from torch import nn

from peers.surrogate import Surrogate
from spon.nn.sparse import SparseMap


def grid_shape(points, cells):
    """Return (rows, columns) of a grid that is no coarser than the mesh: that of the mesh if it is one.

    Otherwise square meshes of 0.8 of the mean length of an edge.
    """
    axes = [np.unique(points[:, k].round(9)) for k in (1, 0)]
    if len(axes[0]) * len(axes[1]) == len(points):
        return len(axes[0]), len(axes[1])
    corners = points[cells]
    edge = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).mean()
    return tuple(int(np.ceil(np.ptp(points[:, k]) / (0.8 * edge))) + 1 for k in (1, 0))


def to_grid(points, cells, shape):
    """Return the matrix (grid points, nodes) of linear interpolation; rows outside the mesh are empty."""
    lower, upper = points.min(axis=0), points.max(axis=0)
    y, x = np.meshgrid(*(np.linspace(lower[k], upper[k], n) for k, n in zip((1, 0), shape, strict=True)),
                       indexing="ij")  # fmt: skip
    where = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = where + 1e-9 * ((lower + upper) / 2 - where)  # off the sides of the box, on the mesh's side
    found = Triangulation(*points.T, cells).get_trifinder()(*inside.T)
    rows = np.flatnonzero(found >= 0)
    corners = points[cells[found[rows]]]
    edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], axis=2)
    local = np.linalg.solve(edges, (inside[rows] - corners[:, 0])[:, :, None])[:, :, 0]
    weights = np.concatenate([1 - local.sum(axis=1, keepdims=True), local], axis=1)
    distance, nearest = KDTree(points).query(where)
    exact = distance[rows] < 1e-9  # at a node: its value and nothing else
    weights[exact] = cells[found[rows[exact]]] == nearest[rows[exact], None]
    entries = (weights.ravel(), (np.repeat(rows, 3), cells[found[rows]].ravel()))
    return sp.csr_array(sp.coo_array(entries, shape=(len(where), len(points))))


def from_grid(points, shape):
    """Return the matrix (nodes, grid points) of bilinear interpolation."""
    lower, size = points.min(axis=0), np.array(shape[::-1])
    position = (points - lower) / np.ptp(points, axis=0) * (size - 1)
    position = np.where(abs(position - position.round()) < 1e-9, position.round(), position)
    first = np.minimum(position.astype(int), size - 2)
    t = position - first
    out = sp.csr_array((len(points), shape[0] * shape[1]))
    for i in (0, 1):
        for j in (0, 1):
            weight = np.where(i, t[:, 0], 1 - t[:, 0]) * np.where(j, t[:, 1], 1 - t[:, 1])
            column = (first[:, 1] + j) * shape[1] + first[:, 0] + i
            entries = (weight, (np.arange(len(points)), column))
            out = out + sp.csr_array(sp.coo_array(entries, shape=out.shape))
    return out


class GridSurrogate(Surrogate):
    """A peer on a grid of the bounding box, with a mask channel where the mesh does not fill it.

    Features are interpolated linearly from the nodes, 0 outside the mesh; the output is interpolated
    bilinearly back to the nodes, where loss and errors are measured. Where the nodes of the mesh are a grid,
    both are exact.

    Attributes:
        shape: (rows, columns) of the grid.
    """

    def __init__(self, train, transform):
        super().__init__(train, transform)
        level = train.discretisation.levels[0]
        self.shape = grid_shape(level.points, level.cells)
        down = to_grid(level.points, level.cells, self.shape)
        self.down, self.up = SparseMap(down), SparseMap(from_grid(level.points, self.shape))
        mask = torch.as_tensor(np.diff(down.indptr) > 0).float().reshape(1, 1, *self.shape)
        self.masked = bool((mask == 0).any())
        self.register_buffer("mask", mask)
        self.network = self.make(self.channels + self.masked)

    def make(self, channels) -> nn.Module:
        """Return the network from (batch, channels, rows, columns) to (batch, components, rows, columns)."""
        raise NotImplementedError

    def field(self, features):
        """Interpolate to the grid, apply the network, interpolate back."""
        batch, _, channels = features.shape
        x = self.down(features.transpose(0, 1)).permute(1, 2, 0).reshape(batch, channels, *self.shape)
        if self.masked:
            x = torch.cat([x, self.mask.expand(batch, -1, -1, -1)], dim=1)
        return self.up(self.network(x).flatten(2).permute(2, 0, 1)).transpose(0, 1)
