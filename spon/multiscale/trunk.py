"""Displacements as a network of the place in a cell, and their strains in the finite-element space."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from scipy.spatial import KDTree
from torch import Tensor, nn

from spon.nn.sparse import SparseMap

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["StrainModes", "Trunk", "node_features"]

_FREQUENCIES = 5
_WIDTHS = (64, 64, 64)
_START = 0.1  # of the usual size of the last layer: training starts from nearly uniform strain
_ROUNDING = 1e-9  # of a side


def node_features(rve: RVE) -> Tensor:
    """Return what a trunk sees of each node, (nodes, features): periodic functions of the place.

    Sines and cosines, and the distance to each phase, zero within it: displacements have kinks where phases
    meet, which a smooth network of sines and cosines would have to approximate.
    """
    nodes = rve.node_coordinates
    low, lengths = nodes.min(0), np.ptp(nodes, axis=0)
    place = (nodes - low) / lengths
    angles = [2 * math.pi * k * place for k in range(1, _FREQUENCIES + 1)]
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    inside = lengths * np.maximum(place - np.floor(place + _ROUNDING), 0)
    operator, n, d = sp.csr_array(rve.strain_operator), rve.strain_size, nodes.shape[1]
    distances = []
    for phase in np.unique(rve.phases):
        points = np.flatnonzero(rve.phases == phase)
        touched = np.unique(operator[(n * points[:, None] + np.arange(n)).ravel()].indices // d)
        distances.append(KDTree(inside[touched], boxsize=lengths).query(inside)[0])
    return torch.as_tensor(np.column_stack([*waves, 2 * math.pi / lengths.max() * np.array(distances).T]))


class Trunk(nn.Module):
    """Displacements as a network of features of the place.

    Args:
        features: how many.
        lengths: (d,) sides of the cell.
        rank: r, the number of displacement fields.
    """

    def __init__(self, features: int, lengths: Tensor, rank: int) -> None:
        super().__init__()
        self.scale, self.d, self.rank = float(lengths.max()), len(lengths), rank
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([features, *_WIDTHS, self.d * rank]):
            layers += [nn.Linear(inputs, outputs, dtype=torch.float64), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])
        with torch.no_grad():
            for parameter in self.layers[-1].parameters():
                parameter *= _START

    def forward(self, features: Tensor) -> Tensor:
        """Return displacements, (m, d, r), in units of the longest side, where features are (m, features)."""
        out: Tensor = self.layers(features).reshape(len(features), self.d, self.rank)
        return out * self.scale


class StrainModes:
    """Strains of a trunk's displacements, interpolated to the finite-element space, at some points of a cell.

    The trunk is evaluated at the nodes of the cells of these points alone.

    Args:
        rve: cell.
        features: (nodes, features) of `node_features`.
        trunk: displacements.
    """

    def __init__(self, rve: RVE, features: Tensor, trunk: Trunk) -> None:
        self.operator, self.n = sp.csr_array(rve.strain_operator), rve.strain_size
        self.features, self.trunk = features, trunk
        self._choose(torch.arange(0))

    def __call__(self, points: Tensor) -> Tensor:
        """Return strains, (m, n, r), at points (m,) int64."""
        if points is not self.points:
            self._choose(points)
        out: Tensor = self.map(self.trunk(self.here).flatten(0, 1))
        return out.reshape(len(points), self.n, self.trunk.rank)

    def _choose(self, points: Tensor) -> None:
        rows = self.operator[(self.n * points[:, None] + torch.arange(self.n)).flatten().numpy()]
        d = self.trunk.d
        nodes, places = np.unique(rows.indices // d, return_inverse=True)
        columns = d * places + rows.indices % d
        matrix = sp.csr_array((rows.data, columns, rows.indptr), (rows.shape[0], d * len(nodes)))
        self.points, self.here, self.map = points, self.features[nodes], SparseMap(matrix, torch.float64)
