"""The network of a branch: macroscopic strain to amplitudes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Branch"]


class Branch(nn.Module):
    """A multilayer perceptron with swish between its layers, float64.

    Strains are scaled so that the box becomes [−1, 1]ⁿ; amplitudes have a scale of their own each.

    Args:
        box: (2, n) smallest and largest strains.
        scale: (r,) sizes of the amplitudes; the network's own outputs are of order one.
        widths: of the hidden layers.
    """

    middle: Tensor
    radius: Tensor
    scale: Tensor

    def __init__(self, box: Tensor, scale: Tensor, widths: Sequence[int] = (64, 64, 64, 64)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.register_buffer("middle", box.mean(0))
        self.register_buffer("radius", (box[1] - box[0]) / 2)
        self.register_buffer("scale", scale)
        sizes = [box.shape[1], *self.widths, len(scale)] if len(scale) else []
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, dtype=torch.float64), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, strain: Tensor) -> Tensor:
        """Return amplitudes, (…, r), of strains (…, n)."""
        if not len(self.scale):
            return strain.new_zeros(*strain.shape[:-1], 0)
        return self.scale * self.layers((strain - self.middle) / self.radius)

    def content(self) -> dict[str, Any]:
        """Return plain values and tensors that `from_content` makes this of."""
        return {"widths": list(self.widths), "state": {k: v.cpu() for k, v in self.state_dict().items()}}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Branch:
        """Make what `content` described."""
        state = content["state"]
        middle, radius = state["middle"], state["radius"]
        branch = cls(torch.stack([middle - radius, middle + radius]), state["scale"], content["widths"])
        branch.load_state_dict(state)
        return branch
