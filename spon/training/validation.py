"""Errors of a model on samples that it is not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from spon.errors import agree
from spon.training.distributed import Ranks
from spon.training.samples import Samples
from spon.training.settings import Training

__all__ = ["Validation"]


class Validation:
    """Measure a model on samples, and tell by which number the best model is chosen.

    Args:
        samples: of each mesh; the ranks share their microbatches.
        settings: of the training.
        ranks: that measure together.
        device: of the samples.
    """

    def __init__(
        self, samples: Sequence[Samples], settings: Training, ranks: Ranks, device: torch.device
    ) -> None:
        self.samples, self.settings, self.ranks, self.device = list(samples), settings, ranks, device

    def __bool__(self) -> bool:
        return bool(self.samples)

    @torch.no_grad()
    def errors(self) -> dict[str, float]:
        """Return mean relative errors by norm, and the physics loss by its name. Collective.

        Each sample is measured once, and sums are exact: the same on any number of ranks.

        Raises:
            SponError: the failure of any rank.
        """
        ranks, found = self.ranks, []
        with agree(ranks):
            for samples in self.samples:
                samples.model.eval()
                parts = torch.arange(len(samples), device=self.device).split(self.settings.microbatch)
                for part in parts[ranks.rank :: ranks.size]:
                    predicted = samples.predicted(part)
                    measured = [samples.relative(n, predicted, part) for n in samples.norms]
                    if samples.physics is not None:
                        measured.append(samples.physics(predicted, part))
                    found.append([values.cpu().tolist() for values in measured])
        gathered = [part for rank in ranks.allgather(found) for part in rank]
        names = [*self.samples[0].norms]
        if self.samples[0].physics is not None:
            names.append(self.settings.physics_loss)
        return {
            name: math.fsum(e for part in gathered for e in part[k]) / sum(map(len, self.samples))
            for k, name in enumerate(names)
        }

    def loss(self, errors: dict[str, float]) -> float:
        """Return what training minimises, of these `errors`: by it the best model is chosen."""
        s = self.settings
        labels = s.label_weight * errors[s.loss] if s.label_weight > 0 else 0.0
        return labels + ((1 - s.label_weight) * errors[s.physics_loss] if s.label_weight < 1 else 0.0)
