"""Which samples a step takes: a function of seed and epoch alone, so that a run can go on anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spon.training.settings import Training

__all__ = ["Batch", "epoch_batches", "large_batch"]


class Batch(NamedTuple):
    """Samples of one mesh.

    Args:
        mesh: number of the data set.
        which: (samples,) their positions in it.
    """

    mesh: int
    which: Tensor


def epoch_batches(sizes: Sequence[int], settings: Training, epoch: int, device: torch.device) -> list[Batch]:
    """Return the batches of an epoch in their order; those of several meshes take turns at random.

    Args:
        sizes: number of samples on each mesh.
        settings: with `seed` and `batch_size`.
        epoch: from 0.
        device: of the positions.
    """
    rng = np.random.default_rng([settings.seed, epoch])
    out = []
    for mesh, size in enumerate(sizes):
        order = torch.as_tensor(rng.permutation(size)).to(device)
        out += [Batch(mesh, part) for part in order.split(settings.batch_size)]
    return out if len(sizes) == 1 else [out[k] for k in rng.permutation(len(out))]


def large_batch(sizes: Sequence[int], settings: Training, group: int, device: torch.device) -> list[Batch]:
    """Return the samples that some iterations of L-BFGS use together, in batches.

    Args:
        sizes: number of samples on each mesh.
        settings: with `seed`, `batch_size` and `lbfgs_samples`.
        group: of iterations, from 0.
        device: of the positions.
    """
    chosen = [torch.arange(size) for size in sizes]
    if settings.lbfgs_samples is not None:
        rng = np.random.default_rng([settings.seed, 1, group])
        share = min(1.0, settings.lbfgs_samples / sum(sizes))
        chosen = [torch.as_tensor(rng.permutation(n)[: max(1, round(share * n))]) for n in sizes]
    return [
        Batch(mesh, part.to(device))
        for mesh, which in enumerate(chosen)
        for part in which.split(settings.batch_size)
    ]
