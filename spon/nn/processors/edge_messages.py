"""Message passing along the edges of a level."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.level import Level
from spon.nn.sample_matrices import SymmetricPattern
from spon.nn.sparse import SparseMap

__all__ = ["Edges", "Messages"]


class Edges(nn.Module):
    """The directed edges of a level: from each node to those that its stiffness couples it to.

    Args:
        level: nodes.
        pattern: of its stiffness.
        dtype: of arithmetic.
    """

    relative: Tensor

    def __init__(self, level: Level, pattern: SymmetricPattern, dtype: torch.dtype) -> None:
        super().__init__()
        rows, columns = pattern.rows.numpy(), pattern.columns.numpy()
        i, j = rows[rows != columns], columns[rows != columns]
        number, n = np.arange(len(i)), len(level.points)
        one = np.ones(len(i))
        self.target = SparseMap(sp.coo_array((one, (number, i)), shape=(len(i), n)), dtype)
        self.source = SparseMap(sp.coo_array((one, (number, j)), shape=(len(i), n)), dtype)
        share = 1.0 / np.bincount(i, minlength=n)[i]
        self.mean = SparseMap(sp.coo_array((share, (i, number)), shape=(n, len(i))), dtype)
        h = level.lumped_mass ** (1.0 / level.gdim)
        relative = (level.points[j] - level.points[i]) / h[i][:, None]
        self.register_buffer("relative", torch.as_tensor(relative).to(dtype), persistent=False)


class Messages(nn.Module):
    """x_i ↦ mean over the edges j of node i of φ(A x_i + B x_j + C (p_j − p_i)/h_i).

    Args:
        channels: of x.
        gdim: geometric dimension.
        dtype: of parameters.
    """

    def __init__(self, channels: int, gdim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.target = nn.Linear(channels, channels, dtype=dtype)
        self.source = nn.Linear(channels, channels, bias=False, dtype=dtype)
        self.relative = nn.Linear(gdim, channels, bias=False, dtype=dtype)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Return the mean messages, (nodes, batch, channels) like x."""
        there = edges.target(self.target(x)) + edges.source(self.source(x))
        mean: Tensor = edges.mean(nn.functional.silu(there + self.relative(edges.relative)[:, None]))
        return mean
