"""Monomials of several variables, by recursion, and where their derivatives are."""

from __future__ import annotations

import torch
from torch import Tensor

from spon.errors import SponError

__all__ = ["Monomials"]


class Monomials:
    """x^α of n variables with |α| = 2, 4, …, degree, and their derivatives as combinations of lower ones.

    Those of a degree are made of those one below, times each variable in turn that comes no later than all of
    their own. Only multiplications are needed, one for each monomial.

    Args:
        size: n.
        degree: the largest, even.

    Raises:
        SponError: a degree that is odd or below 2.
    """

    def __init__(self, size: int, degree: int) -> None:
        if degree < 2 or degree % 2:
            raise SponError(f"an even polynomial of degree {degree}; allowed: 2, 4, 6, …")
        self.size, self.degree = size, degree
        layers = [[(0,) * size]]
        for _ in range(degree):
            layers.append([_times(a, i) for i in range(size) for a in layers[-1] if not any(a[:i])])
        self.starts = [
            [next(k for k, a in enumerate(layer) if not any(a[:i])) for i in range(size)]
            for layer in layers[: degree - 1]
        ]
        self.exponents = [a for layer in layers[2::2] for a in layer]
        odd = {a: k for k, a in enumerate(a for layer in layers[1::2] for a in layer)}
        even = {a: k for k, a in enumerate(a for layer in layers[:-1:2] for a in layer)}
        i, j = torch.triu_indices(size, size).tolist()
        self.first = torch.zeros(size, len(self.exponents), len(odd), dtype=torch.float64)
        self.second = torch.zeros(len(i), len(self.exponents), len(even), dtype=torch.float64)
        for k, a in enumerate(self.exponents):
            for one in range(size):
                if a[one]:
                    self.first[one, k, odd[_over(a, one)]] = a[one]
            for pair, (one, two) in enumerate(zip(i, j, strict=True)):
                b = _over(a, one)
                if a[one] and b[two]:
                    self.second[pair, k, even[_over(b, two)]] = a[one] * b[two]

    def values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return all monomials of odd and of even degree below the largest, 1 among them, at x (n, batch)."""
        layers = [torch.ones_like(x[:1])]
        for starts in self.starts:
            layers.append(torch.cat([x[i] * layers[-1][start:] for i, start in enumerate(starts)]))
        return torch.cat(layers[1::2]), torch.cat(layers[::2])

    def derivatives(self, x: Tensor) -> Tensor:
        """Return gradient and upper triangle of the Hessian of each, (monomials, rows, batch)."""
        odd, even = self.values(x)
        return torch.cat([self.first @ odd, self.second @ even]).transpose(0, 1)


def _times(exponents: tuple[int, ...], variable: int) -> tuple[int, ...]:
    return tuple(e + (k == variable) for k, e in enumerate(exponents))


def _over(exponents: tuple[int, ...], variable: int) -> tuple[int, ...]:
    return tuple(e - (k == variable) for k, e in enumerate(exponents))
