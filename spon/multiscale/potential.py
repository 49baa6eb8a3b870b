"""The potential of a cell as a function of macroscopic strain and mode amplitudes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spon.multiscale.materials import Material

__all__ = ["ReducedPotential", "places"]

_STORED = 6_000_000  # numbers: above, products of modes are formed anew for each Hessian


class ReducedPotential(nn.Module):
    """ψ(y) = ½ y · Q y + Σ_q w_q g_q(G_q y), per volume; y = (E, a), macroscopic strain and amplitudes.

    G_q y is the strain at point q, Q the quadratic parts of the laws integrated over the whole cell, and g
    the remainders of the laws, at all points or at those of a reduced quadrature. As long as the weights are
    not negative and the laws convex, ψ is convex.

    Args:
        quadratic: Q, (N, N), N = n + r.
        laws: of the groups of points.
        operators: G of each group, (points, n, N).
        weights: (points,) of each group, divided by the cell's volume.
    """

    def __init__(
        self,
        quadratic: Tensor,
        laws: Sequence[Material],
        operators: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> None:
        super().__init__()
        self.laws = tuple(laws)
        self.size = quadratic.shape[0]
        self.components = operators[0].shape[1] if operators else quadratic.shape[0]
        self.register_buffer("Q", quadratic, persistent=False)
        upper = torch.triu_indices(self.size, self.size)
        self.register_buffer("_symmetric", places(self.size), persistent=False)
        for k, (G, w) in enumerate(zip(operators, weights, strict=True)):
            columns = G.transpose(0, 1)  # components first: what laws do is then quick
            force = (w[:, None] * columns).reshape(-1, self.size).T.contiguous()
            self.register_buffer(f"_strain{k}", columns.reshape(-1, self.size), persistent=False)
            self.register_buffer(f"_force{k}", force, persistent=False)
            self.register_buffer(f"_weights{k}", w, persistent=False)
            pairs = self.components * (self.components + 1) // 2 * upper.shape[1]
            products = _products(columns, w, upper) if len(w) * pairs <= _STORED else None
            self.register_buffer(f"_products{k}", products, persistent=False)

    def strains(self, y: Tensor) -> list[Tensor]:
        """Return the strains at the points of each group, (n, points · batch), of y (batch, N)."""
        return [
            (getattr(self, f"_strain{k}") @ y.T).reshape(self.components, -1) for k in range(len(self.laws))
        ]

    def energy(self, y: Tensor) -> Tensor:
        """Return ψ, (batch,), of y (batch, N)."""
        out = 0.5 * ((y @ self.Q) * y).sum(1)
        for k, (law, strain) in enumerate(zip(self.laws, self.strains(y), strict=True)):
            out += getattr(self, f"_weights{k}") @ _by_point(law.remainder(strain.T), y)
        return out

    def gradient(self, y: Tensor) -> Tensor:
        """Return dψ/dy, (batch, N), of y (batch, N)."""
        out = self.Q @ y.T
        for k, (law, strain) in enumerate(zip(self.laws, self.strains(y), strict=True)):
            out += getattr(self, f"_force{k}") @ _by_point(law.remainder_stress(strain.T).T, y)
        return out.T

    def derivatives(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return dψ/dy, (batch, N), and the Hessian, (batch, N, N), symmetric, of y (batch, N)."""
        gradient = self.Q @ y.T
        i, j = torch.triu_indices(self.size, self.size, device=y.device)
        packed = self.Q[i, j, None].expand(-1, len(y)).clone()
        for k, (law, strain) in enumerate(zip(self.laws, self.strains(y), strict=True)):
            stress, tangent = law.remainder_columns(strain)
            gradient += getattr(self, f"_force{k}") @ _by_point(stress, y)
            products = getattr(self, f"_products{k}")
            if products is None:
                packed += self._integrated(k, tangent, len(y))[i, j]
            else:
                packed.addmm_(products, _by_point(tangent, y))
        hessian = packed[self._symmetric].T.reshape(len(y), self.size, self.size)
        return gradient.T, hessian

    def _integrated(self, group: int, tangent: Tensor, batch: int) -> Tensor:
        """Return Σ_q w_q Gᵀ D G sample by sample, (N, N, batch)."""
        n = self.components
        G = getattr(self, f"_strain{group}").reshape(n, -1, self.size).transpose(0, 1)
        force = getattr(self, f"_force{group}").reshape(self.size, n, -1).transpose(1, 2)
        force = force.reshape(self.size, -1)
        D = tangent.reshape(len(tangent), -1, batch)[places(n).to(tangent.device)]
        D = D.permute(2, 1, 0).reshape(batch, -1, n, n)
        return torch.stack([force @ (one @ G).reshape(-1, self.size) for one in D], 2)


def _by_point(values: Tensor, y: Tensor) -> Tensor:
    """Return values, (…, points · batch), as a column for each sample, (… · points, batch)."""
    return values.reshape(values.numel() // len(y), len(y))


@functools.cache
def places(size: int) -> Tensor:
    """Return where the entries of a symmetric matrix are in its upper triangle, (size²,); read only."""
    i, j = torch.triu_indices(size, size)
    places = torch.zeros(size, size, dtype=torch.long)
    places[i, j] = places[j, i] = torch.arange(len(i))
    return places.reshape(-1)


def _products(G: Tensor, w: Tensor, upper: Tensor) -> Tensor:
    """Return what takes the upper triangles of all D to that of Σ_q w_q Gᵀ D G, (pairs, pairs · points).

    G is (n, points, N).
    """
    a, b = upper
    columns = []
    for i in range(len(G)):
        for j in range(i, len(G)):
            product = G[i][:, a] * G[j][:, b]
            if j > i:
                product = product + G[j][:, a] * G[i][:, b]
            columns.append(w[:, None] * product)
    return torch.cat(columns).T.contiguous()
