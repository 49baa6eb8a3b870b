"""Nonlinear V-cycles on a finite-element hierarchy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.level import Level, restriction
from spon.nn.processors.base import Encoded, Processor, feature_count
from spon.nn.sparse import SparseMap

__all__ = ["Multigrid"]

_LARGEST_DENSE = 1024


class Multigrid(Processor):
    """V-cycles with learned smoothers that know the sample's own operator.

    After the multigrid variant of SPON (Bouziani & Boullé 2024) and MgNO (He, Liu & Xu 2023, arXiv
    2310.19809), on unstructured nested finite-element levels. A residual block on a level is
    x ← x + W φ(Σ_k T_k x θ_k + b) with fixed sparse T_k and learned channel matrices θ_k, W:
    the identity, the recovered gradient h ∂/∂x_d, and the Jacobi-scaled stiffness D⁻¹K(κ) weighted
    with the sample's coefficient κ (κ = 1 if `coefficient` is off).
    The coarsest level, if it has at most 1024 nodes, adds the inverse of its own K(κ), so that
    information crosses the whole domain in one step.

    Args:
        discretisation: hierarchy of levels.
        features: of the input; default: those of an `OperatorNetwork` on this discretisation.
        widths: channels on each level, finest first; the last one is repeated for further levels.
        cycles: V-cycles.
        coefficient: use the input as coefficient κ > 0 of the level operators.
        dtype: of parameters and arithmetic, `torch.float32` or `torch.float64`, or its name.
        seed: of the initial parameters.

    Raises:
        SponError: no width or a width < 1, no cycle, or another dtype.
    """

    def __init__(
        self,
        discretisation: Discretisation,
        features: int | None = None,
        widths: Sequence[int] = (12, 32, 64),
        cycles: int = 2,
        coefficient: bool = True,
        dtype: torch.dtype | str = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        name = str(dtype).removeprefix("torch.")
        if name not in ("float32", "float64"):
            raise SponError(f"dtype {name}; allowed: float32, float64")
        dtype = getattr(torch, name)
        if not widths or min(widths) < 1 or cycles < 1:
            raise SponError(f"widths = {tuple(widths)}, cycles = {cycles}; allowed: widths >= 1, cycles >= 1")
        if features is None:
            features = feature_count(discretisation)
        self.settings = {
            "features": features,
            "widths": [int(w) for w in widths],
            "cycles": cycles,
            "coefficient": coefficient,
            "dtype": name,
        }
        if coefficient and discretisation.input.components != 1:
            raise SponError(
                f"the first input has {discretisation.input.components} components; allowed: 1 as a "
                "coefficient, any number with coefficient=False"
            )
        levels = discretisation.levels
        channels = [widths[min(k, len(widths) - 1)] for k in range(len(levels))]
        self.operators = nn.ModuleList(
            _LevelOperators(level, k == len(levels) - 1, coefficient, dtype) for k, level in enumerate(levels)
        )
        self.prolong = nn.ModuleList(
            SparseMap(level.prolongation, dtype) for level in levels if level.prolongation is not None
        )
        self.restrict = nn.ModuleList(
            SparseMap(restriction(fine, coarse), dtype) for fine, coarse in pairwise(levels)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.lift = nn.Linear(features, channels[0], dtype=dtype)
            self.cycles = nn.ModuleList(_Cycle(channels, self.operators, dtype) for _ in range(cycles))
            self.read = nn.Linear(channels[0], discretisation.cutoff.shape[1], dtype=dtype)
        nn.init.zeros_(self.read.weight)  # start from the mean of the training outputs
        nn.init.zeros_(self.read.bias)

    def forward(self, encoded: Encoded) -> Tensor:
        """Map nodal features to latent fields, (nodes, batch, latent components)."""
        weights, here = [], encoded.coefficient if self.settings["coefficient"] else None
        for number, operators in enumerate(self.operators):
            weights.append(operators.weights(here))
            if here is not None and number < len(self.restrict):
                here = self.restrict[number](here)
        x = self.lift(encoded.features)
        for cycle in self.cycles:
            x = cycle(x, self, weights)
        out: Tensor = self.read(x)
        return out


class _Cycle(nn.Module):
    """One nonlinear V-cycle."""

    def __init__(self, channels: list[int], operators: nn.ModuleList, dtype: torch.dtype) -> None:
        super().__init__()
        self.pre = nn.ModuleList(_Block(c, o.count, dtype) for c, o in zip(channels, operators, strict=True))
        self.post = nn.ModuleList(_Block(c, o.count, dtype) for c, o in zip(channels, operators, strict=True))
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(nn.Linear(fine, coarse, dtype=dtype) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.Linear(coarse, fine, dtype=dtype) for fine, coarse in pairs)

    def forward(self, x: Tensor, grids: Multigrid, weights: list[Any]) -> Tensor:
        kept = []
        last = len(self.pre) - 1
        for k in range(last + 1):
            x = self.pre[k](x, grids.operators[k], weights[k])
            if k < last:
                kept.append(x)
                x = grids.restrict[k](self.down[k](x))
        for k in range(last, -1, -1):
            if k < last:
                x = kept[k] + grids.prolong[k](self.up[k](x))
            x = self.post[k](x, grids.operators[k], weights[k])
        return x


class _Block(nn.Module):
    """x + W φ(Σ_k T_k x θ_k + b)."""

    def __init__(self, channels: int, operators: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.mix = nn.Linear(operators * channels, channels, dtype=dtype)
        self.out = nn.Linear(channels, channels, dtype=dtype)

    def forward(self, x: Tensor, operators: _LevelOperators, weights: Any) -> Tensor:
        hidden = nn.functional.silu(self.mix(operators(x, weights)))
        out: Tensor = x + self.out(hidden)
        return out


class _LevelOperators(nn.Module):
    """The fixed operators T_k of one level, applied together."""

    volumes: Tensor

    def __init__(self, level: Level, coarsest: bool, coefficient: bool, dtype: torch.dtype) -> None:
        super().__init__()
        gdim = level.points.shape[1]
        local = _recovered_gradient(level)
        if not coefficient:
            local.append(_jacobi_scaled(level.stiffness))
        dense = coarsest and len(level.points) <= _LARGEST_DENSE
        self.local = SparseMap(sp.vstack(local), dtype)
        self.nodes = len(level.points)
        self.count = 1 + len(local) + coefficient + dense
        if coefficient:
            self.gradient = SparseMap(level.gradient, dtype)
            self.divergence = SparseMap(level.gradient.T, dtype)
            self.average = SparseMap(level.values, dtype)
            squares, n = level.gradient.power(2), len(level.weights)
            squares = sum(squares[d * n : (d + 1) * n] for d in range(gdim))
            self.diagonal = SparseMap(squares.T, dtype)  # (nodes, points): Σ_d (∂_d φ_i)²
            self.register_buffer("volumes", torch.as_tensor(level.weights).to(dtype), persistent=False)
        self.gdim = gdim
        if dense:
            self.inverse = _CoarseInverse(level, dtype)

    def weights(self, coefficient: Tensor | None) -> Any:
        """Return what depends on the sample alone, from a nodal coefficient (nodes, batch)."""
        cells = diagonal = None
        if coefficient is not None:
            cells = self.volumes[:, None] * self.average(coefficient)
            diagonal = self.diagonal(cells).reciprocal()[:, :, None]
        inverse = self.inverse.factorise(cells) if hasattr(self, "inverse") else None
        return cells, diagonal, inverse

    def forward(self, x: Tensor, weights: Any) -> Tensor:
        """Map (nodes, batch, channels) to (nodes, batch, operators · channels)."""
        n, batch, channels = x.shape
        cells, diagonal, inverse = weights
        parts = [x, *self.local(x).reshape(-1, n, batch, channels)]
        if cells is not None:
            slopes = self.gradient(x).reshape(self.gdim, -1, batch, channels)
            flux = (cells[None, :, :, None] * slopes).reshape(-1, batch, channels)
            parts.append(diagonal * self.divergence(flux))
        if inverse is not None:
            parts.append(self.inverse(x, inverse))
        return torch.cat(parts, dim=2)


class _CoarseInverse(nn.Module):
    """x ↦ c A⁻¹ M x with A = K(κ) at the free nodes (K if there is no coefficient), 0 at the fixed.

    Without fixed nodes A = K(κ) + M/L², L the extent of the mesh. c makes the largest entry of
    A⁻¹ M 1 equal to one for κ = 1.
    """

    gradient: Tensor
    mass: Tensor
    stiffness: Tensor
    shift: Tensor

    def __init__(self, level: Level, dtype: torch.dtype) -> None:
        super().__init__()
        free = np.flatnonzero(~level.fixed)
        extent = float(np.ptp(level.points, axis=0).max())
        mass, stiffness = level.mass.toarray()[free], level.stiffness.toarray()[np.ix_(free, free)]
        shift = np.zeros_like(stiffness) if level.fixed.any() else mass[:, free] / extent**2
        scale = 1.0 / np.linalg.solve(stiffness + shift, mass.sum(axis=1)).max()
        gradient = level.gradient.toarray()[:, free]
        self.gdim = level.points.shape[1]
        for name, array in (
            ("gradient", gradient),
            ("mass", scale * mass),
            ("stiffness", stiffness),
            ("shift", shift),
        ):
            self.register_buffer(name, torch.as_tensor(array).to(dtype), persistent=False)
        self.register_buffer("free", torch.as_tensor(free), persistent=False)

    def factorise(self, cells: Tensor | None) -> Tensor:
        """Return Cholesky factors (batch or 1, free, free) for weights w κ (quadrature points, batch)."""
        with torch.autocast(self.mass.device.type, enabled=False):  # a factorisation wants all digits
            if cells is None:
                matrix = self.stiffness[None]
            else:
                weighted = cells.T.repeat(1, self.gdim)[:, :, None] * self.gradient
                matrix = self.gradient.T @ weighted
            factor, failed = torch.linalg.cholesky_ex(matrix + self.shift)
        if bool(failed.any()):
            raise SponError("the stiffness of the coarsest level is not positive definite: κ must be > 0")
        return factor

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        n, batch, channels = x.shape
        with torch.autocast(self.mass.device.type, enabled=False):
            x = x.to(self.mass.dtype)
            rhs = (self.mass @ x.reshape(n, -1)).reshape(-1, batch, channels).transpose(0, 1)
            solved = torch.cholesky_solve(rhs, factor).transpose(0, 1)
            return x.new_zeros(n, batch, channels).index_copy(0, self.free, solved)


def _jacobi_scaled(stiffness: sp.csr_array) -> sp.csr_array:
    return sp.csr_array(sp.diags_array(1.0 / stiffness.diagonal()) @ stiffness)


def _recovered_gradient(level: Level) -> list[sp.csr_array]:
    """The recovered gradient at each node, times the local mesh size h."""
    size = sp.diags_array(level.lumped_mass ** (1.0 / level.gdim))
    return [sp.csr_array(size @ direction) for direction in level.recovered_gradient]
