"""Factors that make an estimate cover errors, from a few cases."""

from __future__ import annotations

import math

from torch import Tensor

from spon.errors import SponError

__all__ = ["covering_factor"]


def covering_factor(ratios: Tensor, covered: float = 0.95) -> float:
    """Return a factor for estimates so that a further case is covered with a probability of about `covered`.

    Split conformal prediction (Vovk, Gammerman & Shafer 2005): the k-th smallest of n ratios, with
    k = ⌈(n + 1) covered⌉, covers a further exchangeable case with at least that probability, whatever the
    distribution. Where n is too small for that, 18 and fewer for 0.95, the largest covers n/(n + 1) alone. It
    is then multiplied by √(1 / ((n + 1)(1 − covered))), as if the probability of a larger ratio fell with
    the inverse square of the ratio: an assumption, where there are no data.

    Args:
        ratios: (n,) error / estimate of cases that nothing else was made of.
        covered: probability, between 0 and 1.

    Raises:
        SponError: no case, or another probability.
    """
    count = len(ratios)
    if not count or not 0 < covered < 1:
        raise SponError(f"{count} cases to cover {covered} of; allowed: 1 or more, between 0 and 1")
    place = math.ceil((count + 1) * covered - 1e-9)
    largest = math.sqrt(max(1.0, 1 / ((count + 1) * (1 - covered))))
    found = ratios.sort().values
    return float(found[place - 1]) if place <= count else largest * float(found[-1])
