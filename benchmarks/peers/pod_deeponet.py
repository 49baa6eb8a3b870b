"""POD-DeepONet (Lu et al. 2022, Comput. Methods Appl. Mech. Engrg. 393, 114778, section 3.1.4)."""

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from peers.surrogate import Surrogate


class PodDeepONet(Surrogate):
    """u = ū + Σ_k b_k(m) φ_k with a fully connected branch b and the leading POD modes φ_k of the outputs.

    As published: modes of the standardised nodal values, unweighted, scaled with the square root of
    their length; the branch sees all values of the input.
    """

    learning_rates = (2.5e-4, 5e-4, 1e-3)  # documented: 1e-3
    batch_size = 32
    modes, width, depth = 64, 256, 3

    def __init__(self, train, transform):
        super().__init__(train, transform)
        modes, dofs = min(self.modes, len(train) - 1), train.discretisation.dofs
        self.register_buffer("basis", torch.zeros(modes, dofs))
        sizes = [sum(self.sizes), *[self.width] * self.depth]
        layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.GELU())]
        self.branch = nn.Sequential(*layers, nn.Linear(sizes[-1], modes))

    def fit_normalisation(self, inputs, outputs, shifts=None):
        """Set mean, scale and modes."""
        super().fit_normalisation(inputs, outputs, shifts)
        scale = np.tile(self.output_scale.numpy(), outputs.shape[1] // self.components)
        modes = np.linalg.svd((outputs - outputs.mean(axis=0)) / scale, full_matrices=False)[2]
        self.basis.copy_(torch.as_tensor(modes[: len(self.basis)] * outputs.shape[1] ** 0.5))

    def features(self, inputs):
        """Return all values of the inputs, (batch, DoFs)."""
        return torch.cat(self.standardised(inputs), dim=1)

    def field(self, features):
        """Combine the modes."""
        out = self.branch(features) @ self.basis
        return out.reshape(len(features), -1, self.components)
