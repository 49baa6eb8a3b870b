"""Training on strains alone: Adam on fresh samples, then L-BFGS on fixed strains and all points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spon.errors import SponError
from spon.multiscale.loads import latin_hypercube
from spon.progress import progress_bar

__all__ = [
    "Unlabelled",
    "check_training",
    "draw_points",
    "in_box",
    "refine",
    "sample_weights",
    "train_unlabelled",
]

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

_ROUND = 50  # iterations of L-BFGS between two states of the progress bar


@dataclass(frozen=True)
class Unlabelled:
    """How to train without labels.

    Args:
        steps: of Adam, each on strains and quadrature points drawn anew.
        learning_rate: at the start; it falls to nothing as a cosine.
        batch: strains of a step.
        points: quadrature points of a step.
        refinements: iterations of L-BFGS on fixed strains and all points of the cell. At a part of these
            the loss falls below its minimum over the cell, and fields become useless elsewhere.
        strains: for L-BFGS, a Latin hypercube.
        seed: of the network and of all that is drawn.
        show: a progress bar.

    Raises:
        SponError: a number that is not positive; steps and refinements may be 0.
    """

    steps: int = 3000
    learning_rate: float = 5e-3
    batch: int = 32
    points: int = 300
    refinements: int = 600
    strains: int = 64
    seed: int = 0
    show: bool = False

    def __post_init__(self) -> None:
        check_training(self, ("learning_rate", "batch", "points", "strains"))


def check_training(settings: Any, positive: Sequence[str]) -> None:
    """Check numbers of `steps` and `refinements`, and what has to be positive.

    Args:
        settings: has them as attributes.
        positive: names.

    Raises:
        SponError: a number out of range.
    """
    for name in ("steps", "refinements"):
        if getattr(settings, name) < 0:
            raise SponError(f"{name} = {getattr(settings, name)}; allowed: 0 or more")
    for name in positive:
        if not 0 < getattr(settings, name) < math.inf:
            raise SponError(f"{name} = {getattr(settings, name)}; allowed: positive numbers")


def train_unlabelled(
    parameters: list[nn.Parameter], loss: Loss, weights: Tensor, box: Tensor, settings: Unlabelled
) -> list[float]:
    """Minimise the mean of a loss over strains in a box and points of a cell.

    Args:
        parameters: to be changed in place.
        loss: of strains (batch, n), points (m,) and weights (m,) with which these stand for the integral over
            the cell; a scalar.
        weights: (points,) of the cell's quadrature, positive: points are drawn in proportion to them.
        box: (2, n) smallest and largest strains.
        settings: how.

    Returns:
        The loss, each `_ROUND` steps.

    Raises:
        SponError: the loss is no number any more.
    """
    random = np.random.default_rng(settings.seed)
    history = []
    bar = progress_bar(settings.steps + settings.refinements, "train", "step", settings.show)
    adam = torch.optim.Adam(parameters, settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(settings.steps, 1))
    for step in range(settings.steps):
        strain = in_box(box, settings.batch, int(random.integers(2**31)))
        points = draw_points(weights, settings.points, random.random())
        adam.zero_grad()
        value = loss(strain, points, sample_weights(weights, weights, points))
        value.backward()
        adam.step()
        schedule.step()
        if step % _ROUND == 0:
            history.append(_number(value))
            bar.set_postfix_str(f"loss {history[-1]:.3g}", refresh=False)
        bar.update()
    strain = in_box(box, settings.strains, settings.seed)
    every = torch.arange(len(weights), device=weights.device)
    history += refine(parameters, lambda: loss(strain, every, weights), settings.refinements, bar)
    bar.close()
    return history


def refine(
    parameters: list[nn.Parameter], loss: Callable[[], Tensor], iterations: int, bar: Any
) -> list[float]:
    """Minimise a loss by L-BFGS with a strong Wolfe line search; return it, each `_ROUND` iterations.

    Args:
        parameters: to be changed in place.
        loss: a scalar, always of the same data.
        iterations: at most so many.
        bar: progress bar, of which these are a part.

    Raises:
        SponError: the loss is no number any more.
    """
    lbfgs = torch.optim.LBFGS(
        parameters,
        max_iter=_ROUND,
        max_eval=2 * _ROUND,
        history_size=100,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        lbfgs.zero_grad()
        value = loss()
        value.backward()
        return value

    history = []
    for done in range(0, iterations, _ROUND):
        lbfgs.param_groups[0]["max_iter"] = min(_ROUND, iterations - done)
        history.append(_number(lbfgs.step(closure)))
        bar.set_postfix_str(f"loss {history[-1]:.3g}", refresh=False)
        bar.update(min(_ROUND, iterations - done))
    return history


def in_box(box: Tensor, count: int, seed: int) -> Tensor:
    """Return strains that fill a box (2, n) evenly, (count, n)."""
    unit = torch.as_tensor(latin_hypercube(count, box.shape[1], 0.5, seed)) + 0.5
    return box[0] + (box[1] - box[0]) * unit.to(box.device)


def draw_points(density: Tensor, count: int, offset: float) -> Tensor:
    """Return numbers of points, (count,), rising, drawn in proportion to a density.

    A systematic sample: along the sum of the density, point by point, at equal distances.

    Args:
        density: (points,) positive.
        count: how many; a point may come several times where its density is large.
        offset: between 0 and 1, where the first one lies in its share.
    """
    whole = density.cumsum(0)
    at = (torch.arange(count, dtype=density.dtype, device=density.device) + offset) / count * whole[-1]
    return torch.searchsorted(whole, at).clamp_max(len(density) - 1)


def sample_weights(weights: Tensor, density: Tensor, points: Tensor) -> Tensor:
    """Return weights (m,) with which drawn points stand for the integral over the cell, free of bias.

    Args:
        weights: (points,) of the cell's quadrature.
        density: (points,) that the points were drawn in proportion to.
        points: (m,) of `draw_points`.
    """
    return weights[points] * density.sum() / (density[points] * len(points))


def _number(value: Tensor) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise SponError(f"training: the loss became {number}; allowed: a smaller learning_rate")
    return number
