"""A surrogate whose doubtful points are solved by a second model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spon.errors import SponError, agree
from spon.multiscale.micromodel import MicroModel, Response

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["WithFallback"]


class WithFallback:
    """Answers of a surrogate, and of a second model at the points where the surrogate is in doubt.

    A point is in doubt where the surrogate failed (not converged, …), where its answer is not finite, or
    where its indicator exceeds the threshold or is infinite, as it is outside the trained range. Points
    with a number (`where`) that were in doubt once stay with the second model until `forget`: else a
    point near the threshold would change its law from one Newton iteration to the next.

    Args:
        surrogate: quick, with an indicator, unless the threshold is infinite.
        reference: the model that is trusted, such as the finite-element solution of the cell.
        threshold: largest indicator that is accepted, > 0; `math.inf`: all but infinite ones. Where nothing
            is estimated (nan), a finite threshold is not met.

    Attributes:
        calls: how often this rank's points asked the reference.
        solved: of this rank's points those that asked it, all calls together.

    Raises:
        SponError: strains of different sizes; a threshold that is not positive.
    """

    def __init__(self, surrogate: MicroModel, reference: MicroModel, threshold: float) -> None:
        if surrogate.strain_size != reference.strain_size:
            raise SponError(
                f"the surrogate takes strains of {surrogate.strain_size} components, its fallback of "
                f"{reference.strain_size}; allowed: the same"
            )
        if not threshold > 0:
            raise SponError(f"threshold = {threshold} of the indicator; allowed: positive numbers, inf")
        self.surrogate, self.reference, self.threshold = surrogate, reference, threshold
        self.strain_size = surrogate.strain_size
        self.calls = self.solved = 0
        self._kept = torch.zeros(0, dtype=torch.int64)

    def forget(self) -> None:
        """Let the surrogate answer again at points that were in doubt."""
        self._kept = self._kept[:0]

    def respond(self, strain: Tensor, where: Tensor | None = None) -> Response:
        """Return stress and tangent; the indicator of points that the reference answered is its own, or 0.

        Raises:
            SponError: the surrogate has no indicator and the threshold is finite.
        """
        first, doubt = self._first(strain, where)
        if not doubt.any():
            return replace(first, fallback=doubt)
        second = self.reference.respond(strain[doubt], None if where is None else where[doubt])
        return self._merged(first, second, doubt)

    def respond_together(self, strain: Tensor, where: Tensor, comm: Comm) -> Response:
        """Return the same as `respond`, with the second model's points of all ranks shared out. Collective.

        Raises:
            SponError: on all ranks, as `respond` on any.
        """
        with agree(comm):
            first, doubt = self._first(strain, where)
        together = getattr(self.reference, "respond_together", None)
        if together is not None:
            second = together(strain[doubt], where[doubt], comm)
            return self._merged(first, second, doubt)
        with agree(comm):
            second = self.reference.respond(strain[doubt], where[doubt]) if doubt.any() else None
        return replace(first, fallback=doubt) if second is None else self._merged(first, second, doubt)

    def _first(self, strain: Tensor, where: Tensor | None) -> tuple[Response, Tensor]:
        """Return what the surrogate says, and where that is in doubt."""
        if not len(strain):
            none = torch.zeros(0, dtype=torch.bool)
            return Response(strain, strain.new_zeros(0, self.strain_size, self.strain_size), None, none), none
        first = self.surrogate.respond(strain, where)
        doubt = self._doubt(first)
        if where is not None:
            doubt = doubt | torch.isin(where, self._kept.to(where.device))
            self._kept = torch.unique(torch.cat([self._kept.to(where.device), where[doubt]]))
        return first, doubt

    def _merged(self, first: Response, second: Response, doubt: Tensor) -> Response:
        """Return the first answers, the second ones where in doubt."""
        self.calls, self.solved = self.calls + bool(doubt.any()), self.solved + int(doubt.sum())
        stress, tangent, failed = first.stress.clone(), first.tangent.clone(), first.failed.clone()
        stress[doubt], tangent[doubt], failed[doubt] = second.stress, second.tangent, second.failed
        indicator = None
        if first.indicator is not None:
            indicator = first.indicator.clone()
            indicator[doubt] = 0.0 if second.indicator is None else second.indicator
        return Response(stress, tangent, indicator, failed, doubt)

    def _doubt(self, answer: Response) -> Tensor:
        finite = answer.stress.isfinite().all(-1) & answer.tangent.isfinite().flatten(1).all(-1)
        doubt = answer.failed | ~finite
        if answer.indicator is None and math.isinf(self.threshold):
            return doubt
        if answer.indicator is None:
            raise SponError(
                f"a threshold of {self.threshold:g} for a surrogate without an indicator; allowed: inf, or a "
                "surrogate with one"
            )
        if math.isinf(self.threshold):
            return doubt | answer.indicator.isposinf()
        return doubt | ~(answer.indicator <= self.threshold)  # also where the indicator is nan
