"""The potential of a cell as a function of macroscopic strain and mode amplitudes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spon.multiscale.materials import Material

__all__ = ["ReducedPotential"]

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
        symmetric = torch.zeros(self.size, self.size, dtype=torch.long)
        symmetric[upper[0], upper[1]] = torch.arange(upper.shape[1])
        symmetric = torch.maximum(symmetric, symmetric.T).reshape(-1)
        self.register_buffer("_symmetric", symmetric, persistent=False)
        for k, (G, w) in enumerate(zip(operators, weights, strict=True)):
            self.register_buffer(f"_strain{k}", G.reshape(-1, self.size).T.contiguous(), persistent=False)
            self.register_buffer(
                f"_force{k}", (w[:, None, None] * G).reshape(-1, self.size), persistent=False
            )
            self.register_buffer(f"_weights{k}", w, persistent=False)
            pairs = self.components * (self.components + 1) // 2 * upper.shape[1]
            products = _products(G, w, upper) if len(w) * pairs <= _STORED else None
            self.register_buffer(f"_products{k}", products, persistent=False)
        self.register_buffer("_upper", torch.triu_indices(self.components, self.components), persistent=False)

    def strains(self, y: Tensor) -> list[Tensor]:
        """Return the strains at the points of each group, (batch · points, n), of y (batch, N)."""
        return [
            (y @ getattr(self, f"_strain{k}")).reshape(-1, self.components) for k in range(len(self.laws))
        ]

    def energy(self, y: Tensor) -> Tensor:
        """Return ψ, (batch,), of y (batch, N)."""
        out = 0.5 * ((y @ self.Q) * y).sum(1)
        for k, (law, strain) in enumerate(zip(self.laws, self.strains(y), strict=True)):
            out += self._flat(law.remainder(strain), y) @ getattr(self, f"_weights{k}")
        return out

    def gradient(self, y: Tensor) -> Tensor:
        """Return dψ/dy, (batch, N), of y (batch, N)."""
        out = y @ self.Q
        for k, (law, strain) in enumerate(zip(self.laws, self.strains(y), strict=True)):
            stress = law.remainder_stress(strain)
            out += self._flat(stress, y) @ getattr(self, f"_force{k}")
        return out

    def derivatives(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return dψ/dy, (batch, N), and the Hessian, (batch, N, N), symmetric, of y (batch, N)."""
        gradient = y @ self.Q
        hessian = self.Q.expand(len(y), -1, -1).clone()
        for k, (law, strain) in enumerate(zip(self.laws, self.strains(y), strict=True)):
            stress, tangent = law.remainder_response(strain)
            gradient += self._flat(stress, y) @ getattr(self, f"_force{k}")
            products = getattr(self, f"_products{k}")
            if products is None:
                hessian += self._hessian(k, tangent.reshape(len(y), -1, *tangent.shape[1:]))
            else:
                i, j = self._upper
                packed = self._flat(tangent[:, i, j], y) @ products
                hessian += packed[:, self._symmetric].reshape(hessian.shape)
        return gradient, hessian

    @staticmethod
    def _flat(values: Tensor, y: Tensor) -> Tensor:
        """Return values at the points of all samples as a row for each sample."""
        return values.reshape(len(y), values.numel() // len(y))

    def _hessian(self, group: int, tangent: Tensor) -> Tensor:
        """Return Σ_q w_q Gᵀ D G sample by sample; the symmetric part drops rounding only."""
        G = getattr(self, f"_strain{group}").T.reshape(-1, self.components, self.size)
        force = getattr(self, f"_force{group}").T
        H = torch.stack([force @ (D @ G).reshape(-1, self.size) for D in tangent])
        return 0.5 * (H + H.transpose(1, 2))


def _products(G: Tensor, w: Tensor, upper: Tensor) -> Tensor:
    """Return what takes the upper triangles of all D to that of Σ_q w_q Gᵀ D G, (points · pairs, pairs)."""
    n = G.shape[1]
    a, b = upper
    rows = []
    for i in range(n):
        for j in range(i, n):
            product = G[:, i, a] * G[:, j, b]
            if j > i:
                product = product + G[:, j, a] * G[:, i, b]
            rows.append(w[:, None] * product)
    return torch.stack(rows, 1).reshape(-1, a.shape[0])
