"""One nonlinear cycle through the levels, and its residual blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from spon.nn.processors.edge_messages import Edges, Messages
from spon.nn.processors.level_operators import LevelOperators
from spon.nn.sparse import SparseMap
from spon.nn.stiffness import Stiffness

__all__ = ["Block", "Cycle", "Grids"]


class Grids(nn.Module):
    """What belongs to the mesh: operators of all levels, finest first, and the ways between them.

    Args:
        operators: of each level.
        edges: of each level; empty without messages.
        prolong: P to each level but the coarsest.
        restrict: M_c⁻¹ Pᵀ M_f from each level but the coarsest.
    """

    def __init__(
        self,
        operators: Sequence[LevelOperators],
        edges: Sequence[Edges],
        prolong: Sequence[SparseMap],
        restrict: Sequence[SparseMap],
    ) -> None:
        super().__init__()
        self.operators, self.edges = nn.ModuleList(operators), nn.ModuleList(edges)
        self.prolong, self.restrict = nn.ModuleList(prolong), nn.ModuleList(restrict)

    @property
    def counts(self) -> list[int]:
        """Number of operators on each level."""
        return [int(operator.count) for operator in self.operators]


class Cycle(nn.Module):
    """A block before and one after the visit of the coarser level, on every level.

    Args:
        channels: on each level, finest first.
        counts: number of operators T_k on each level.
        gamma: visits of the next coarser level, unless that is the coarsest; they share their blocks.
        gdim: geometric dimension, for messages along edges; None: without them.
        dtype: of parameters.
    """

    def __init__(
        self, channels: Sequence[int], counts: Sequence[int], gamma: int, gdim: int | None, dtype: torch.dtype
    ) -> None:
        super().__init__()
        pairs, levels = list(pairwise(channels)), list(zip(channels, counts, strict=True))
        self.gamma, self.last = gamma, len(channels) - 1
        self.pre = nn.ModuleList(Block(c, count, gdim, dtype) for c, count in levels)
        self.post = nn.ModuleList(Block(c, count, gdim, dtype) for c, count in levels)
        self.down = nn.ModuleList(nn.Linear(fine, coarse, dtype=dtype) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.Linear(coarse, fine, dtype=dtype) for fine, coarse in pairs)

    def forward(
        self, x: Tensor, grids: Grids, stiffness: Sequence[Stiffness], factor: Tensor | None
    ) -> Tensor:
        """Map (nodes, batch, channels) on the finest level to the like."""
        return self._level(0, x, grids, stiffness, factor)

    def _level(
        self, k: int, x: Tensor, grids: Grids, stiffness: Sequence[Stiffness], factor: Tensor | None
    ) -> Tensor:
        edges = grids.edges[k] if len(grids.edges) else None
        x = self.pre[k](x, grids.operators[k], edges, stiffness[k], factor)
        if k < self.last:
            coarse = self.down[k](grids.restrict[k](x))
            for _ in range(self.gamma if k + 1 < self.last else 1):
                coarse = self._level(k + 1, coarse, grids, stiffness, factor)
            x = x + grids.prolong[k](self.up[k](coarse))
        out: Tensor = self.post[k](x, grids.operators[k], edges, stiffness[k], factor)
        return out


class Block(nn.Module):
    """x + W φ(Σ_k T_k x θ_k + b), φ(t) = t σ(t)."""

    def __init__(self, channels: int, operators: int, gdim: int | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.messages = None if gdim is None else Messages(channels, gdim, dtype)
        self.mix = nn.Linear((operators + (gdim is not None)) * channels, channels, dtype=dtype)
        self.out = nn.Linear(channels, channels, dtype=dtype)

    def forward(
        self,
        x: Tensor,
        operators: LevelOperators,
        edges: Edges | None,
        stiffness: Stiffness,
        factor: Tensor | None,
    ) -> Tensor:
        """Map (nodes, batch, channels) to the like."""
        parts = operators(x, stiffness, factor)
        n, batch, channels = x.shape
        if self.messages is not None and edges is not None:
            parts.append(self.messages(x, edges).reshape(1, -1, channels))
        thetas = self.mix.weight.split([len(part) * channels for part in parts], dim=1)
        # sums of products: three times faster than one product with all parts copied side by side
        hidden = self.mix.bias
        for part, theta in zip(parts, thetas, strict=True):
            if len(part) == 1:
                hidden = torch.addmm(hidden, part[0], theta.T)
            else:
                blocks = theta.reshape(channels, -1, channels).permute(1, 2, 0)
                hidden = hidden + torch.bmm(part, blocks).sum(dim=0)
        flat = x.reshape(-1, channels)
        out = torch.addmm(flat, nn.functional.silu(hidden), self.out.weight.T) + self.out.bias
        return out.reshape(n, batch, channels)
