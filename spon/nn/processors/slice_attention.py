"""Attention among slices of the domain."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.processors.base import (
    Encoded,
    Processor,
    feature_count,
    moved,
    real_type,
    require_sizes,
    with_constant,
)

__all__ = ["SliceAttention"]


class SliceAttention(Processor):
    """Transolver: attention among learned slices of the domain (Wu et al. 2024, arXiv 2402.02366).

    In each head a node i belongs to slice j with the weight w_ij = softmax_j(W x_i / τ), a slice is the token
    Σ_i m_i w_ij v_i / Σ_i m_i w_ij, tokens attend to each other, and a node gets back Σ_j w_ij of them.
    m is the lumped mass, which the paper has not: sums are quadratures of integrals over the domain, and
    the result converges as the mesh is refined instead of following the density of nodes.
    x is v after LayerNorm; a block is attention and then a dense network at each node, both residual.

    Args:
        discretisation: whose nodes of the finest level are sliced.
        width: channels, a multiple of the heads.
        blocks: number of them.
        heads: of the attention.
        slices: in each head.
        expansion: hidden channels of the dense network over `width`.
        dtype: of parameters and arithmetic, `torch.float32` or `torch.float64`, or its name.
        seed: of the initial parameters.

    Raises:
        SponError: a size < 1, a width that is no multiple of the heads, or another dtype.
    """

    # buffers
    mass: Tensor

    def __init__(
        self,
        discretisation: Discretisation,
        width: int = 24,
        blocks: int = 3,
        heads: int = 2,
        slices: int = 32,
        expansion: int = 2,
        dtype: torch.dtype | str = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "blocks": blocks, "heads": heads, "slices": slices, "expansion": expansion}
        require_sizes(sizes)
        if width % heads:
            raise SponError(f"width = {width}; allowed: a multiple of heads = {heads}")
        name, real = real_type(dtype)
        self.settings = {**sizes, "dtype": name, "seed": seed}
        mass = discretisation.levels[0].lumped_mass
        self.register_buffer("mass", torch.as_tensor(mass / mass.sum()).to(real), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.lift = _dense(feature_count(discretisation), 2 * width, width, real)
            self.blocks = nn.ModuleList(
                _Block(width, heads, slices, expansion * width, real) for _ in range(blocks)
            )
            self.norm = nn.LayerNorm(width, dtype=real)
            self.read = nn.Linear(width, discretisation.cutoff.shape[1], dtype=real)
        nn.init.zeros_(self.read.weight)  # start from the mean of the training outputs
        nn.init.zeros_(self.read.bias)

    def on(self, discretisation: Discretisation) -> SliceAttention:
        """Return the processor on another mesh, with the same parameters.

        Raises:
            SponError: other numbers of features or latent components.
        """
        return moved(self, discretisation)

    def forward(self, encoded: Encoded) -> Tensor:
        """Map nodal features to latent fields, (nodes, batch, latent components)."""
        out: Tensor = self.read(self._hidden(encoded))
        return out.transpose(0, 1)

    def last_features(self, encoded: Encoded) -> Tensor:
        """Return the channels of the nodes and the constant, (nodes, batch, features)."""
        return with_constant(self._hidden(encoded).transpose(0, 1))

    def _hidden(self, encoded: Encoded) -> Tensor:
        """Return the channels after the last block, (batch, nodes, channels)."""
        x = self.lift(encoded.features.transpose(0, 1).contiguous())
        for block in self.blocks:
            x = block(x, self.mass)
        out: Tensor = self.norm(x)
        return out


class _Block(nn.Module):
    """x ← x + attention(x), x ← x + dense(x), (batch, nodes, channels)."""

    def __init__(self, width: int, heads: int, slices: int, hidden: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width, dtype=dtype)
        self.attention = _Attention(width, heads, slices, dtype)
        self.between = nn.LayerNorm(width, dtype=dtype)
        self.dense = _dense(width, hidden, width, dtype)

    def forward(self, x: Tensor, mass: Tensor) -> Tensor:
        x = x + self.attention(self.before(x), mass)
        out: Tensor = x + self.dense(self.between(x))
        return out


class _Attention(nn.Module):
    """Attention among slices; inside, nodes are the last axis, so that no product copies its factors."""

    def __init__(self, width: int, heads: int, slices: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = heads
        self.slice = nn.Linear(width, heads * slices, dtype=dtype)
        self.temperature = nn.Parameter(torch.full((heads,), math.log(0.5), dtype=dtype))  # log τ
        self.value = nn.Linear(width, width, dtype=dtype)
        channels = width // heads
        self.mix = nn.Linear(channels, 3 * channels, bias=False, dtype=dtype)
        self.out = nn.Linear(width, width, dtype=dtype)

    def forward(self, x: Tensor, mass: Tensor) -> Tensor:
        batch, nodes, width = x.shape
        across, heads = x.transpose(1, 2), self.heads
        # W / τ costs nothing, (W x) / τ a pass over the largest array
        sharp = (-self.temperature).exp().repeat_interleave(len(self.slice.bias) // heads)[:, None]
        logits = _applied(sharp * self.slice.weight, sharp * self.slice.bias[:, None], across)
        weights = logits.reshape(batch, heads, -1, nodes).softmax(dim=2)
        values = _applied(self.value.weight, self.value.bias[:, None], across)
        values = values.reshape(batch, heads, -1, nodes)
        measured = torch.cat([values, torch.ones_like(values[:, :, :1])], dim=2) * mass
        sums = weights @ measured.transpose(
            2, 3
        )  # ∫ w v and, last, ∫ w: (batch, heads, slices, channels + 1)
        query, key, value = self.mix(sums[..., :-1] / sums[..., -1:]).chunk(3, dim=3)
        tokens = nn.functional.scaled_dot_product_attention(query, key, value)
        back = (tokens.transpose(2, 3) @ weights).reshape(batch, width, nodes)
        out: Tensor = self.out(back.transpose(1, 2))
        return out


def _applied(matrix: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """A x + b for x (batch, channels, nodes) of any strides."""
    return torch.baddbmm(bias, matrix.expand(len(x), -1, -1), x)


def _dense(inputs: int, hidden: int, outputs: int, dtype: torch.dtype) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden, dtype=dtype), nn.SiLU(), nn.Linear(hidden, outputs, dtype=dtype)
    )
