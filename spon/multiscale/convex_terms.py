"""Terms of a convex potential with the derivatives that a fit needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Terms", "upper"]


def upper(entries: Tensor, size: int) -> Tensor:
    """Return upper triangular matrices (…, n, n) of their entries (…, n (n + 1)/2), row by row."""
    i, j = torch.triu_indices(size, size)
    out = entries.new_zeros(*entries.shape[:-1], size, size)
    out[..., i, j] = entries
    return out


@dataclass(frozen=True)
class Terms:
    """t² g(√(d² + |R x|²/t²)), g(m) = m − ln(1 + m), R upper triangular: stiffness Rᵀ R/(1 + d) at rest.

    Args:
        parameters: (terms, n (n + 1)/2 + 2): entries of R, ln t, ln d.
    """

    parameters: Tensor

    @property
    def factors(self) -> Tensor:
        """R, (terms, n, n)."""
        entries = self.parameters[:, :-2]
        return upper(entries, int((2 * entries.shape[1]) ** 0.5))

    @property
    def size(self) -> Tensor:
        """t, (terms,)."""
        return self.parameters[:, -2].exp()

    @property
    def offset(self) -> Tensor:
        """d, (terms,)."""
        return self.parameters[:, -1].exp()

    def scaled(self, scale: Tensor) -> Terms:
        """Return the same terms times positive numbers (terms,)."""
        factors = self.parameters[:, :-2] * scale[:, None].sqrt()
        tail = self.parameters[:, -2:] + torch.stack([0.5 * scale.log(), torch.zeros_like(scale)], 1)
        return Terms(torch.cat([factors, tail], 1))

    def derivatives(self, x: Tensor) -> Tensor:
        """Return gradients and upper triangles of Hessians, (terms, rows, samples), at x (n, samples)."""
        return self._evaluated(x)[0]

    def sensitivities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `derivatives` and d of them / d parameters, (terms, parameters, rows, samples)."""
        value, parts = self._evaluated(x)
        q, m, s, c, f, products, B = parts
        n, squared = len(x), self.size[:, None] ** 2
        i, j = torch.triu_indices(n, n)
        one = upper(torch.eye(len(i), dtype=x.dtype), n)
        half = torch.einsum("kab,ubc->ukac", one.mT, self.factors)
        D = half + half.mT  # dB / d entries of R
        df = D @ x
        c_m = c * (-2 * s - 1 / m)

        def along(dm: Tensor) -> Tensor:
            """Return what a change of m, (terms, k, samples), brings."""
            ds, dc = (-(s**2)[:, None] * dm)[:, :, None], (c_m[:, None] * dm)[:, :, None]
            return torch.cat([ds * f[:, None], ds * B[:, None] - dc * products[:, None]], 2)

        outer = df[:, :, i] * f[:, None, j] + f[:, None, i] * df[:, :, j]
        direct = [
            s[:, None, None] * df,
            s[:, None, None] * D[:, :, i, j, None] - c[:, None, None] * outer,
        ]
        of_factors = along((x * df).sum(2) / (2 * m * squared)[:, None]) + torch.cat(direct, 2)
        of_size = along((-q / m)[:, None])
        of_size[:, 0, n:] += 2 * c[:, None] * products
        of_offset = along((self.offset[:, None] ** 2 / m)[:, None])
        return value, torch.cat([of_factors, of_size, of_offset], 1)

    def _evaluated(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        R, squared = self.factors, self.size[:, None] ** 2
        i, j = torch.triu_indices(len(x), len(x))
        squares = R.mT @ R
        f, B = squares @ x, squares[:, i, j, None]
        q = (x * f).sum(1).clamp_min(0) / squared
        m = (self.offset[:, None] ** 2 + q).sqrt()
        s = 1 / (1 + m)
        c = s**2 / (m * squared)
        products = f[:, i] * f[:, j]
        value = torch.cat([s[:, None] * f, s[:, None] * B - c[:, None] * products], 1)
        return value, (q, m, s, c, f, products, B)
