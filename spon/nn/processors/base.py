"""What every processor is: a map from encoded inputs to latent fields or to unknowns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.physics.kernels.physics import Physics

__all__ = ["Encoded", "Known", "Processor", "feature_count"]

P = TypeVar("P", bound="Processor")


@dataclass(frozen=True)
class Encoded:
    """What an `OperatorNetwork` tells its processor of a batch of samples, on the module's device.

    Args:
        features: (nodes, batch, features): nodal values of the inputs, transformed and standardised,
            coordinates, the cut-off, and features of `Processor.known`; in the processor's dtype.
        coefficient: (nodes, batch) the first input as nodal values, untransformed, in the
            processor's dtype; None if it is not scalar.
        inputs: (batch, DoFs of all inputs) float64, transformed and standardised.
        raw: (batch, DoFs of all inputs) float64, as they were given.
        shift: (batch, DoFs) float64 u_g of each sample; None: that of the discretisation.
    """

    features: Tensor
    coefficient: Tensor | None
    inputs: Tensor
    raw: Tensor
    shift: Tensor | None = None


@dataclass(frozen=True)
class Known:
    """What a processor finds of a solution without learning.

    Args:
        features: (nodes, batch, k) further features, which the network scales; None: none.
        start: (batch, DoFs) in the range of Z, which the network adds to u, so that only the rest is
            learned; None: nothing.
    """

    features: Tensor | None = None
    start: Tensor | None = None


class Processor(nn.Module):
    """Base class of processors; one class per file.

    Matrices of the mesh are buffers that are not persistent; the state dict holds what was learned.

    Attributes:
        acts_on: "nodes": `forward` returns (nodes, batch, latent components), in any float dtype, which
            the network multiplies by cut-off and scale and decodes; "dofs": it returns the unknowns û
            (batch, columns of Z) in u = Z û + ū + u_g.
        known_features: how many `known` returns.
        settings: arguments of the constructor beside the discretisation, as plain values, from
            which a checkpoint builds the processor again.
    """

    acts_on: ClassVar[str] = "nodes"
    known_features: int = 0
    settings: dict[str, Any]

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and arithmetic."""
        return next((p.dtype for p in self.parameters()), torch.float64)

    def fit(self, inputs: Tensor, unknowns: Tensor) -> None:
        """Set what the training samples give in closed form; default: nothing.

        Args:
            inputs: (samples, DoFs of all inputs) float64, transformed and standardised.
            unknowns: (samples, columns of Z) float64 û of u = Z û + ū + u_g.
        """

    def inspect(self, raw: Tensor) -> None:
        """Look at the training inputs before anything else; default: nothing.

        Args:
            raw: (samples, DoFs of all inputs) float64, as they were given.
        """

    def use(self, physics: Physics | None) -> None:
        """Take the equations of a data set, where a processor needs them; default: nothing."""

    def known(self, encoded: Encoded) -> Known:
        """Return what is known of the solution beforehand; default: nothing."""
        return Known()

    def on(self: P, discretisation: Discretisation) -> P:
        """Return the processor on another mesh, with the same parameters; default: refused.

        Raises:
            SponError: what was learned belongs to one mesh, or spaces of another kind.
        """
        raise SponError(f"a {type(self).__name__} belongs to the mesh that it was made on")

    def forward(self, encoded: Encoded) -> Tensor:
        """Map a batch; see `acts_on`."""
        raise NotImplementedError


def feature_count(discretisation: Discretisation) -> int:
    """Return the number of features in `Encoded.features`: inputs, coordinates, cut-off."""
    inputs = sum(space.components for space in discretisation.inputs.values())
    return inputs + discretisation.levels[0].gdim + discretisation.cutoff.shape[1]
