"""Data sets on the device, with the errors of a network on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spon.data.dataset import Dataset
from spon.errors import SponError
from spon.nn.norms import GramNorm
from spon.nn.operator import OperatorNetwork
from spon.training.physics_loss import PhysicsLoss
from spon.training.settings import Training

__all__ = ["Samples", "on_mesh"]


class Samples:
    """Samples of one mesh on the device of a network, and their sizes in some norms.

    Args:
        model: network on the mesh of the samples.
        dataset: samples.
        norms: "l2", "h1", "energy"; without any, outputs are not read.
        physics: loss on these samples; None: no such.

    Attributes:
        model: network.
        norms: their names.
        physics: loss.

    Raises:
        SponError: a norm that the discretisation has not; an output of norm zero, which has no
            relative error.
    """

    def __init__(
        self,
        model: OperatorNetwork,
        dataset: Dataset,
        norms: Sequence[str],
        physics: PhysicsLoss | None = None,
    ) -> None:
        device = model.shift.device
        self.model, self.physics = model, physics
        self.norms = tuple(norms)
        self._inputs = torch.as_tensor(dataset.inputs).to(device)
        if norms:
            self._outputs = torch.as_tensor(dataset.outputs).to(device)
        self._shifts = None if dataset.shifts is None else torch.as_tensor(dataset.shifts).to(device)
        self._norms = {name: GramNorm(dataset.discretisation, name).to(device) for name in norms}
        self._sizes = {
            name: torch.cat([norm(part) for part in self._outputs.split(64)])
            for name, norm in self._norms.items()
        }
        for name, sizes in self._sizes.items():
            if bool((sizes == 0).any()):
                number = dataset.numbers[int((sizes == 0).nonzero()[0])]
                raise SponError(f"the {name} norm of the output of sample {number} is 0; allowed: > 0")

    def __len__(self) -> int:
        return len(self._inputs)

    def predicted(self, which: Tensor) -> Tensor:
        """Return predictions of the samples `which`, (batch, DoFs) float64."""
        shift = None if self._shifts is None else self._shifts[which]
        out: Tensor = self.model(self._inputs[which], shift)
        return out

    def relative(self, norm: str, predicted: Tensor, which: Tensor) -> Tensor:
        """Return ‖prediction − output‖ / ‖output‖ of the samples `which`, (batch,) float64."""
        ratio: Tensor = self._norms[norm](predicted - self._outputs[which]) / self._sizes[norm][which]
        return ratio

    def loss(self, settings: Training, predicted: Tensor, which: Tensor) -> Tensor:
        """Return what is minimised, of labels and equations, (batch,) float64."""
        weight, parts = settings.label_weight, []
        if weight > 0:
            parts.append(weight * self.relative(settings.loss, predicted, which))
        if self.physics is not None:
            parts.append((1 - weight) * self.physics(predicted, which))
        return torch.stack(parts).sum(dim=0)


def on_mesh(model: OperatorNetwork, dataset: Dataset) -> OperatorNetwork:
    """Return the network on the mesh of a data set, with the same parameters, not copies.

    Raises:
        SponError: a network or a processor that does not cross meshes.
    """
    if dataset.discretisation.fingerprint == model.fingerprint:
        return model
    return model.on(dataset.discretisation, dataset.physics)
