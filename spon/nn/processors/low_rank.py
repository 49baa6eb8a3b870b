"""A dense network between principal components of inputs and output."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.processors.base import Encoded, Processor, real_type, require_sizes
from spon.nn.reduction import input_mass, pod, ridge_parameter, unknown_mass

__all__ = ["LowRank"]


class LowRank(Processor):
    """POD-DeepONet: û = û₀ + Σ_k b_k(a) σ_k Φ_k (Lu et al. 2022, Comput. Methods Appl. Mech. Engrg. 393).

    Φ are the principal components of the training outputs, orthonormal in the mass inner product
    ZᵀMZ, σ the standard deviations of their coefficients. a are the coefficients of the inputs, of every
    kind and also numbers, in their own principal components, over the deviation of the first: dividing
    each by its own would give the small ones a say that they do not have. b is a dense network beside a
    linear map, which `fit` starts as the ridge regression of b on a (λ by generalised
    cross-validation); the dense network starts from zero. Where the samples have fewer components than
    `rank` or `input_rank`, the rest are zero.

    Args:
        discretisation: spaces of inputs and output.
        rank: output modes.
        input_rank: input modes.
        width: of the hidden layers.
        depth: number of hidden layers.
        dtype: of parameters and arithmetic, `torch.float32` or `torch.float64`, or its name.
        seed: of the initial parameters.

    Raises:
        SponError: a size < 1, or another dtype.
    """

    acts_on: ClassVar[str] = "dofs"

    # buffers
    centre: Tensor
    offset: Tensor
    projection: Tensor
    modes: Tensor

    def __init__(
        self,
        discretisation: Discretisation,
        rank: int = 64,
        input_rank: int = 64,
        width: int = 256,
        depth: int = 2,
        dtype: torch.dtype | str = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"rank": rank, "input_rank": input_rank, "width": width, "depth": depth}
        require_sizes(sizes)
        name, real = real_type(dtype)
        self.settings = {**sizes, "dtype": name, "seed": seed}
        self._masses = input_mass(discretisation), unknown_mass(discretisation)
        inputs, unknowns = (mass.shape[0] for mass in self._masses)
        for key, shape in (
            ("centre", (inputs,)),
            ("offset", (unknowns,)),
            ("projection", (inputs, input_rank)),
            ("modes", (rank, unknowns)),
        ):
            self.register_buffer(key, torch.zeros(shape, dtype=real))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.linear = nn.Linear(input_rank, rank, bias=False, dtype=real)
            layers: list[nn.Module] = []
            for k in range(depth):
                layers += [nn.Linear(width if k else input_rank, width, dtype=real), nn.SiLU()]
            self.dense = nn.Sequential(*layers, nn.Linear(width, rank, dtype=real))
        last = self.dense[-1]
        for parameter in (self.linear.weight, last.weight, last.bias):
            nn.init.zeros_(parameter)  # start from the regression

    @torch.no_grad()
    def fit(self, inputs: Tensor, unknowns: Tensor) -> None:
        """Compute the modes and the linear map.

        Args:
            inputs: (samples, DoFs of all inputs) float64, transformed and standardised.
            unknowns: (samples, columns of Z) float64.

        Raises:
            SponError: fewer than 2 samples, or inputs that do not differ.
        """
        x, y = inputs.cpu().numpy(), unknowns.cpu().numpy()
        if len(x) < 2:
            raise SponError(f"{len(x)} training samples; allowed: at least 2")
        into, out = self._masses
        centre, offset = x.mean(axis=0), y.mean(axis=0)
        source, target = pod(x - centre, into), pod(y - offset, out)
        m, n = (min(self.settings[k], len(p.values)) for k, p in (("input_rank", source), ("rank", target)))
        if m == 0:
            raise SponError("the inputs of all training samples are the same; nothing to fit")
        unit = np.sqrt(len(x) - 1)  # a coefficient of deviation 1 has this norm
        self.centre.copy_(torch.as_tensor(centre))
        self.offset.copy_(torch.as_tensor(offset))
        self.projection.zero_()[:, :m] = torch.as_tensor(
            into @ source.modes[:, :m] * (unit / source.values[0])
        )
        self.modes.zero_()[:n] = torch.as_tensor((target.modes[:, :n] * (target.values[:n] / unit)).T)
        left, values = source.left[:, :m], source.values[:m]
        correlation = left.T @ target.left[:, :n]
        across = target.left[:, :n] - left @ correlation
        explained, rest = (((part * target.values[:n]) ** 2).sum(axis=1) for part in (correlation, across))
        shift = ridge_parameter(values, explained, float(rest.sum()), len(x))
        weight = correlation.T * (values * values[0] / (values**2 + shift))
        self.linear.weight.zero_()[:n, :m] = torch.as_tensor(weight)

    def last_features(self, encoded: Encoded) -> Tensor:
        """Return the modes, (columns of Z, batch, rank), the same for all samples."""
        return self.modes.T[:, None].expand(-1, len(encoded.inputs), -1)

    def forward(self, encoded: Encoded) -> Tensor:
        """Map standardised inputs to unknowns, (batch, columns of Z)."""
        a = (encoded.inputs.to(self.dtype) - self.centre) @ self.projection
        return self.offset + (self.linear(a) + self.dense(a)) @ self.modes
