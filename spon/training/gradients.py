"""Gradients of the mean loss over batches that ranks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spon.errors import SponError, agree
from spon.training.batches import Batch
from spon.training.distributed import Ranks, sum_in_order
from spon.training.samples import Samples
from spon.training.settings import Training

__all__ = ["Gradients"]


class Gradients:
    """Sums of the gradients of microbatches, in an order that the number of ranks does not change.

    Args:
        samples: training samples on each mesh, with the network there.
        parameters: that are trained, of one device; the same tensors on each mesh.
        settings: of the run.
        ranks: the processes.
    """

    def __init__(
        self, samples: Sequence[Samples], parameters: Sequence[Tensor], settings: Training, ranks: Ranks
    ) -> None:
        self._samples, self._parameters = samples, parameters
        self._settings, self._ranks = settings, ranks
        self._device = samples[0].model.shift.device
        flat = [p.detach().reshape(-1) for p in parameters]
        self._like = torch.cat(flat) if flat else torch.zeros(0)

    def __call__(self, batches: Sequence[Batch], step: int) -> float:
        """Set the gradients of the mean loss over batches. Collective.

        Args:
            batches: taken together.
            step: seeds what is random in the network.

        Returns:
            That loss.
        """
        count = sum(len(batch.which) for batch in batches)
        total = torch.zeros_like(self._like)
        loss = torch.zeros(1, dtype=torch.float64, device=self._device)
        ranks, s = self._ranks, self._settings
        for number, batch in enumerate(batches):
            parts = batch.which.split(s.microbatch)
            found, losses = [], []
            with agree(ranks):
                for k in range(ranks.rank, len(parts), ranks.size):
                    torch.manual_seed(_seed(s.seed, step, number, k))
                    gradient, errors = self._part(batch.mesh, parts[k], count)
                    found.append(gradient)
                    losses.append(errors)
            total += sum_in_order(found, len(parts), ranks, self._like)
            loss += sum_in_order(losses, len(parts), ranks, loss)
        sizes = [p.numel() for p in self._parameters]
        for p, gradient in zip(self._parameters, total.split(sizes), strict=True):
            p.grad = gradient.view_as(p).to(p.dtype)
        return loss.item() / count

    def try_out(self) -> None:
        """Compute the gradient of one sample on each mesh, to see whether that is possible."""
        for mesh in range(len(self._samples)):
            self._part(mesh, torch.zeros(1, dtype=torch.int64, device=self._device), 1)

    def require_bfloat16(self) -> None:
        """Try the gradient in mixed precision.

        Raises:
            SponError: the processor cannot.
        """
        processor = self._samples[0].model.processor
        name = type(processor).__name__
        if processor.dtype != torch.float32:
            raise SponError(
                f"precision 'bfloat16' with a {name} of {processor.dtype}; allowed: torch.float32"
            )
        try:
            self.try_out()
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise SponError(f"precision 'bfloat16' with a {name}: {first}; allowed: full") from error

    def _part(self, mesh: int, which: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Gradient of the share of a microbatch in a mean over `count` samples, and its summed loss."""
        samples, p = self._samples[mesh], self._parameters
        samples.model.train()
        with self._autocast():
            predicted = samples.predicted(which)
        errors = samples.loss(self._settings, predicted, which)
        gradients = torch.autograd.grad(errors.sum() / count, p, allow_unused=True, materialize_grads=True)
        flat = torch.cat([g.reshape(-1) for g in gradients])
        return flat.to(self._like.dtype), errors.detach().sum()[None]

    def _autocast(self) -> Any:
        enabled = self._settings.precision == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=enabled)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
