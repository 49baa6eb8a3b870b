"""Steps that lower the potential, for batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["backtrack"]

_HALVINGS = 12
_DECREASE = 1e-4  # share of the predicted decrease that a step has to bring
_ROUND_OFF = 1e-12  # of the potential, or of the work of the load


def backtrack(
    energy: Callable[[Tensor], Tensor], u: Tensor, direction: Tensor, slope: Tensor, work: Tensor
) -> tuple[Tensor, Tensor]:
    """Halve steps until each brings a share of the decrease that its slope predicts.

    The rule of Armijo (Nocedal & Wright 2006, Numerical Optimization, section 3.1), but for round-off.

    Args:
        energy: the potential, (batch, DoFs) ↦ (batch,), infinite or no number where it is not defined.
        u: (batch, DoFs).
        direction: (batch, DoFs), the step to begin with.
        slope: (batch,) derivative of the potential along it.
        work: (batch,) of the load, whose round-off is in the potential too.

    Returns:
        (batch, DoFs), u itself where no step was found; (batch,) bool, where one was.
    """
    before = energy(u)
    scale = before.abs() + work.abs()
    length = torch.ones_like(slope)
    for _ in range(_HALVINGS):
        after = energy(u + length[:, None] * direction)
        ok = after.isfinite() & (after <= before + _DECREASE * length * slope + _ROUND_OFF * scale)
        if bool(ok.all()):
            break
        length = torch.where(ok, length, length / 2)
    return torch.where(ok[:, None], u + length[:, None] * direction, u), ok
