"""A convex network as potential of the macroscopic strain."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from spon.errors import SponError
from spon.multiscale.fitting import minimise_loss
from spon.multiscale.macro_potential import MacroPotential
from spon.multiscale.sobolev import SobolevLabels

__all__ = ["MLPPotential"]

_NAMES = ("factor", "first", "bias", "second", "second_bias", "last")


class MLPPotential(MacroPotential):
    """A multilayer perceptron of two hidden layers, smooth, even and convex in the strain.

    W = ½ |R E|² + v · s(C z + c), z = s(A E + b) + s(b − A E), s(y) = ln(1 + eʸ), with C ≥ 0 and v ≥ 0:
    an input-convex network (Amos, Xu & Kolter 2017, arXiv 1609.07152). Derivatives are in closed form.

    Args:
        box: (2, n) trained strains.
        factor: R, (n, n).
        first: A, (width, n).
        bias: b, (width,).
        second: C, (width, width), not negative.
        second_bias: c, (width,).
        last: v, (width,), not negative.
        error, reduction, least: see `MacroPotential`.
    """

    kept: ClassVar[tuple[str, ...]] = _NAMES

    def __init__(
        self,
        box: Tensor,
        factor: Tensor,
        first: Tensor,
        bias: Tensor,
        second: Tensor,
        second_bias: Tensor,
        last: Tensor,
        error: float,
        reduction: float,
        least: float,
    ) -> None:
        super().__init__(box, error, reduction, least)
        values = (factor, first, bias, second, second_bias, last)
        for name, value in zip(_NAMES, values, strict=True):
            self.register_buffer(name, value)

    @classmethod
    def fitted(
        cls, found: SobolevLabels, box: Tensor, seed: int, width: int = 24, iterations: int = 3000
    ) -> MLPPotential:
        """Train a network on labels by L-BFGS.

        Args:
            found: labels.
            box: (2, n) trained strains.
            seed: of the first weights.
            width: of the hidden layers.
            iterations: of L-BFGS.

        Raises:
            SponError: no unit.
        """
        if width < 1:
            raise SponError(f"hidden layers of {width} units; allowed: 1 or more")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _Network(found, width)
        minimise_loss(network, lambda: network.loss(found), iterations)
        with torch.no_grad():
            factor, first, bias, second, second_bias, last = network.weights()
        reach, root = found.reach, found.energy.sqrt()
        scaled = (root * factor / reach, first / reach, bias, second, second_bias, found.energy * last)
        tensors = {name: value.detach().clone() for name, value in zip(_NAMES, scaled, strict=True)}
        return cls(box, **tensors, error=1.0, reduction=1.0, least=1.0)

    def derivatives(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient (n, batch) and upper triangle of the Hessian at E (n, batch)."""
        return _derivatives(strain, *(getattr(self, name) for name in _NAMES))


def _derivatives(
    x: Tensor, factor: Tensor, first: Tensor, bias: Tensor, second: Tensor, second_bias: Tensor, last: Tensor
) -> tuple[Tensor, Tensor]:
    n = len(x)
    i, j = torch.triu_indices(n, n, device=x.device)
    y = first @ x
    up, down = bias[:, None] + y, bias[:, None] - y
    rise, fall = up.sigmoid(), down.sigmoid()
    slope, curvature = rise - fall, rise * (1 - rise) + fall * (1 - fall)
    inner = torch.addmm(second_bias[:, None], second, softplus(up) + softplus(down))
    outer = inner.sigmoid()
    weight = last[:, None] * outer
    back = second.T @ weight
    along = (second * first.T[:, None]) @ slope  # d(C z)/dE, (n, width, batch)
    M = factor.T @ factor
    gradient = M @ x + first.T @ (back * slope)
    change = (weight * (1 - outer)) * along
    hessian = (first[:, i] * first[:, j]).T @ (back * curvature) + M[i, j, None]
    both = torch.stack([(change[a] * along[b]).sum(0) for a, b in zip(i, j, strict=True)])
    return gradient, hessian + both


class _Network(nn.Module):
    """The parameters while they are trained; those that must not be negative by their logarithms."""

    def __init__(self, found: SobolevLabels, width: int) -> None:
        super().__init__()
        n = found.size
        values, vectors = torch.linalg.eigh(found.mean_hessian())
        self.factor = nn.Parameter(0.9 * values.clamp_min(0).sqrt()[:, None] * vectors.T)
        self.first = nn.Parameter(2 * torch.randn(width, n, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(width, dtype=torch.float64))
        self.log_second = nn.Parameter(
            torch.randn(width, width, dtype=torch.float64) - torch.tensor(width).log()
        )
        self.second_bias = nn.Parameter(torch.randn(width, dtype=torch.float64))
        scale = found.target[:n].square().mean(1).sqrt().amin()
        self.log_last = nn.Parameter((scale / width).log() + torch.zeros(width, dtype=torch.float64))

    def weights(self) -> tuple[Tensor, ...]:
        """Return R, A, b, C, c, v."""
        rest = (self.log_second.exp(), self.second_bias, self.log_last.exp())
        return (self.factor, self.first, self.bias, *rest)

    def loss(self, found: SobolevLabels) -> Tensor:
        """Return the weighted square of the error."""
        rest = found.target - torch.cat(_derivatives(found.x, *self.weights()))
        return found.flat(rest).square().sum()
