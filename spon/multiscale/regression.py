"""Fitting the network of a branch to known amplitudes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spon.multiscale.branch import Branch
from spon.multiscale.unlabelled import check_training, refine
from spon.progress import progress_bar

__all__ = ["Regression", "fit_branch"]

_ROUND = 50  # steps of Adam between two states of the progress bar


@dataclass(frozen=True)
class Regression:
    """How to fit a branch.

    Args:
        steps: of Adam.
        learning_rate: at the start; it falls to nothing as a cosine.
        batch: strains of a step, drawn at random.
        refinements: iterations of L-BFGS, on all strains.
        seed: of what is drawn.
        show: a progress bar.

    Raises:
        SponError: a number that is not positive; steps and refinements may be 0.
    """

    steps: int = 8000
    learning_rate: float = 5e-3
    batch: int = 200
    refinements: int = 3500
    seed: int = 0
    show: bool = False

    def __post_init__(self) -> None:
        check_training(self, ("learning_rate", "batch"))


def fit_branch(branch: Branch, strain: Tensor, amplitudes: Tensor, how: Regression, what: str) -> None:
    """Minimise Σ_k w_k (b_k(E) − a_k)² over strains: first w_k = 1/s_k, s_k the scales, then w_k = 1.

    Amplitudes of proper orthogonal decompositions fall by orders of magnitude: with weights 1, those of a
    mean square, the small ones, which make the shear of the tangent, are learned last, and with 1/s_k² the
    large ones. Adam and the first half of L-BFGS take the weights 1/s_k.

    Args:
        branch: to be changed in place.
        strain: (cases, n).
        amplitudes: (cases, r).
        how: settings.
        what: name for the progress bar.

    Raises:
        SponError: the loss is no number any more.
    """
    if not len(branch.scale):
        return
    parameters = list(branch.parameters())
    graded, plain = 1 / branch.scale, torch.ones_like(branch.scale)
    bar = progress_bar(how.steps + how.refinements, what, "step", how.show)
    adam = torch.optim.Adam(parameters, how.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(how.steps, 1))
    random = torch.Generator().manual_seed(how.seed)

    def loss(strain: Tensor, amplitudes: Tensor, weights: Tensor) -> Tensor:
        off = (branch(strain) - amplitudes).square() @ weights
        return off.mean() / (branch.scale.square() @ weights)

    for step in range(how.steps):
        drawn = torch.randint(len(strain), (how.batch,), generator=random)
        adam.zero_grad()
        value = loss(strain[drawn], amplitudes[drawn], graded)
        value.backward()
        adam.step()
        schedule.step()
        if step % _ROUND == 0:
            bar.set_postfix_str(f"loss {float(value.detach()):.3g}", refresh=False)
        bar.update()
    first = how.refinements // 2
    refine(parameters, lambda: loss(strain, amplitudes, graded), first, bar)
    refine(parameters, lambda: loss(strain, amplitudes, plain), how.refinements - first, bar)
    bar.close()
