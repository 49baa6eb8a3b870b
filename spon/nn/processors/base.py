"""What every processor is: a map from encoded inputs to latent fields or to unknowns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.physics.kernels.physics import Physics

__all__ = [
    "Encoded",
    "Known",
    "Processor",
    "feature_count",
    "moved",
    "real_type",
    "require_sizes",
    "with_constant",
]

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
        whole: whether û is all of u − u_g, so that the network has no mean ū.
        trainable: whether there are parameters for the trainer; if not, `fit` is all.
        known_features: how many `known` returns.
        settings: arguments of the constructor beside the discretisation, as plain values, from
            which a checkpoint builds the processor again.
        physics: the equations that `use` gave to a processor that needs them, which a checkpoint stores;
            None: not needed, or not given.
    """

    acts_on: ClassVar[str] = "nodes"
    whole: ClassVar[bool] = False
    trainable: ClassVar[bool] = True
    known_features: int = 0
    settings: dict[str, Any]
    physics: Physics | None = None

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

    def last_features(self, encoded: Encoded) -> Tensor:
        """Return what the last linear layer combines, with its constant; default: refused.

        Returns:
            (nodes, batch, features), or (columns of Z, batch, features) of processors that act on DoFs: a
            latent component of `forward`, or û, is a combination of them with the same parameters everywhere.

        Raises:
            SponError: there is no such layer.
        """
        raise SponError(
            f"a {type(self).__name__} has no last linear layer; allowed: Graph, LowRank, Multigrid, "
            "SliceAttention"
        )

    def forward(self, encoded: Encoded) -> Tensor:
        """Map a batch; see `acts_on`."""
        raise NotImplementedError


def with_constant(x: Tensor) -> Tensor:
    """Return (nodes, batch, channels) and a channel of ones, which the bias of a layer multiplies."""
    return torch.cat([x, torch.ones_like(x[:, :, :1])], dim=2)


def feature_count(discretisation: Discretisation) -> int:
    """Return the number of features in `Encoded.features`: inputs, coordinates, cut-off."""
    inputs = sum(space.components for space in discretisation.inputs.values())
    return inputs + discretisation.levels[0].gdim + discretisation.cutoff.shape[1]


def real_type(dtype: torch.dtype | str) -> tuple[str, torch.dtype]:
    """Return name and dtype of "float32" or "float64", or of the dtype itself.

    Raises:
        SponError: another one.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in ("float32", "float64"):
        raise SponError(f"dtype {name}; allowed: float32, float64")
    return name, getattr(torch, name)


def require_sizes(sizes: Mapping[str, int]) -> None:
    """Refuse settings below one.

    Raises:
        SponError: naming the first such.
    """
    for name, value in sizes.items():
        if value < 1:
            raise SponError(f"{name} = {value}; allowed: >= 1")


def moved(processor: P, discretisation: Discretisation) -> P:
    """Return a processor on another mesh with the same parameters, for `Processor.on`.

    Its class makes all that depends on the mesh from the discretisation and the settings.

    Raises:
        SponError: other numbers of features or latent components.
    """
    other = type(processor)(discretisation, **processor.settings)
    state = processor.state_dict()
    for name, value in other.state_dict().items():
        if value.shape != state[name].shape:
            raise SponError(
                f"{name} of a {type(processor).__name__} has the shape {tuple(state[name].shape)}, here "
                f"{tuple(value.shape)}; allowed: spaces of the same kind and dimension"
            )
    other.load_state_dict(state)
    return other.to(next(processor.parameters()).device).train(processor.training)
