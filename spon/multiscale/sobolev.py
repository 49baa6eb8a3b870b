"""Stresses and tangents as labels of a potential: without dimensions, weighted, in one vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spon.multiscale.potential import places

__all__ = ["SobolevLabels"]


@dataclass(frozen=True)
class SobolevLabels:
    """First and second derivatives of a potential W at some strains, scaled.

    Strains are divided by `reach`, W by `energy`. Gradients and the upper triangles of Hessians are rows of
    one array, (n + n (n + 1)/2, samples). Each row of the gradient counts relative to its root mean square,
    each of the Hessian to those of the two diagonal entries that bound it: shear, a hundred times smaller
    than pressure where the matrix hardly compresses, is then learned as well as pressure.

    Args:
        x: (n, samples).
        target: (n + n (n + 1)/2, samples).
        weights: (n + n (n + 1)/2,).
        reach: (n,) largest strains.
        energy: of a sample, mean.
    """

    x: Tensor
    target: Tensor
    weights: Tensor
    reach: Tensor
    energy: Tensor

    @classmethod
    def of(cls, strain: Tensor, stress: Tensor, tangent: Tensor, reach: Tensor) -> SobolevLabels:
        """Scale strains (samples, n), stresses (samples, n) and tangents (samples, n, n)."""
        i, j = torch.triu_indices(len(reach), len(reach))
        energy = (stress * strain).sum(1).mean()
        gradient = (stress * reach / energy).T
        hessian = (tangent[:, i, j] * reach[i] * reach[j] / energy).T
        diagonal = hessian[i == j].square().mean(1).sqrt()
        weights = torch.cat([1 / gradient.square().mean(1).sqrt(), (diagonal[i] * diagonal[j]) ** -0.5])
        return cls((strain / reach).T.contiguous(), torch.cat([gradient, hessian]), weights, reach, energy)

    @property
    def size(self) -> int:
        """n, the components of a strain."""
        return len(self.x)

    def flat(self, derivatives: Tensor) -> Tensor:
        """Return weighted derivatives (…, rows, samples) as vectors (…, rows · samples)."""
        scaled = self.weights[:, None] * derivatives / self.x.shape[1] ** 0.5
        return scaled.flatten(-2)

    def first(self, samples: int) -> SobolevLabels:
        """Return the first samples with the same scales."""
        rest = (self.weights, self.reach, self.energy)
        return SobolevLabels(self.x[:, :samples], self.target[:, :samples], *rest)

    def quadratics(self, factors: Tensor) -> Tensor:
        """Return derivatives of ½ |R x|², (terms, rows, samples), of factors R (terms, k, n)."""
        i, j = torch.triu_indices(self.size, self.size)
        matrices = factors.mT @ factors
        curvature = matrices[:, i, j, None].expand(-1, -1, self.x.shape[1])
        return torch.cat([matrices @ self.x, curvature], 1)

    def mean_hessian(self) -> Tensor:
        """Return the mean of the Hessians, (n, n)."""
        packed = self.target[self.size :].mean(1)
        return packed[places(self.size)].reshape(self.size, self.size)
