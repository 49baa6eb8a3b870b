"""The calls that a macroscopic problem makes of the microscale: in batches, checked on all ranks, counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spon.errors import SponError, agree
from spon.multiscale.macro_points import MacroPoints
from spon.multiscale.micromodel import MicroModel, Response

__all__ = ["MicroCalls", "MicroState", "NoAnswerError", "place"]

Floats = npt.NDArray[np.float64]


class NoAnswerError(SponError):
    """The microscale has no answer at some point."""


@dataclass(frozen=True)
class MicroState:
    """Strains and answers at the points of this rank.

    Args:
        strain: (points, n).
        stress: (points, n).
        tangent: (points, n, n).
        indicator: (points,) estimated relative error of the stress; nan where nothing is estimated.
        fallback: (points,) bool, answered by the second model of a `WithFallback`.
    """

    strain: Floats
    stress: Floats
    tangent: Floats
    indicator: Floats
    fallback: npt.NDArray[np.bool_]


class MicroCalls:
    """One batched call for each set of strains. Collective.

    Args:
        points: of this rank.
        model: the microscale.
        comm: communicator of the mesh.

    Attributes:
        calls: how many were made; on ranks without points none.
        seconds: that they took on this rank.

    Raises:
        SponError: a model for strains of another size.
    """

    def __init__(self, points: MacroPoints, model: MicroModel, comm: Any) -> None:
        if model.strain_size != points.size:
            raise SponError(
                f"a micromodel of strains of {model.strain_size} components; allowed: {points.size}, as the "
                "macroscopic mesh has them"
            )
        self._points, self._model, self._comm = points, model, comm
        self._where = torch.from_numpy(points.numbers)
        self.calls, self.seconds = 0, 0.0

    def __call__(self, strain: Floats) -> MicroState:
        """Return the answers.

        Args:
            strain: (points, n).

        Raises:
            NoAnswerError: on all ranks, where the model failed, or its answer is not finite, at some point.
            SponError: on all ranks, answers of a wrong shape and what the model raises.
        """
        begun, n = time.perf_counter(), self._points.size
        bad: npt.NDArray[np.bool_] = np.zeros(len(strain), dtype=bool)
        state = MicroState(strain, strain[:0], np.empty((0, n, n)), np.empty(0), bad[:0])
        together = getattr(self._model, "respond_together", None)
        answer = None
        if together is not None:  # on ranks without points, too
            answer = self._ask(strain, partial(together, comm=self._comm))
        with agree(self._comm):
            if len(strain):
                if answer is None:
                    answer = self._ask(strain, self._model.respond)
                state, bad = _checked(strain, answer)
                self.calls += 1
        self.seconds += time.perf_counter() - begun
        self._refuse(strain, bad)
        return state

    def _ask(self, strain: Floats, respond: Callable[[torch.Tensor, torch.Tensor], Response]) -> Response:
        """Ask at all points; in a body at rest at one, where the model is uniform."""
        one = getattr(self._model, "uniform", False) and not strain.any()
        count = 1 if one else len(strain)
        answer = respond(torch.from_numpy(strain[:count]), self._where[:count])
        if not one:
            return answer
        found = {name: value for name, value in vars(answer).items() if value is not None}
        shapes = {name: (len(strain), *value.shape[1:]) for name, value in found.items()}
        return replace(answer, **{name: value.expand(shapes[name]) for name, value in found.items()})

    def _refuse(self, strain: Floats, bad: npt.NDArray[np.bool_]) -> None:
        at = np.flatnonzero(bad)
        mine = None
        if len(at):
            worst = at[self._points.numbers[at].argmin()]
            mine = (int(self._points.numbers[worst]), place(self._points, strain, int(worst)))
        found = [f for f in self._comm.allgather((len(at), mine)) if f[1] is not None]
        if found:
            text = min(f[1] for f in found)[1]
            raise NoAnswerError(
                f"the micromodel has no answer at {sum(f[0] for f in found)} points, first {text}"
            )


def place(points: MacroPoints, strain: Floats, number: int) -> str:
    """Return where a point is and what its strain is, in words."""
    x = ", ".join(f"{c:.6g}" for c in points.coordinates[number])
    e = ", ".join(f"{c:.4g}" for c in strain[number])
    return f"point {points.numbers[number]} at ({x}), strain ({e})"


def _checked(strain: Floats, answer: Response) -> tuple[MicroState, npt.NDArray[np.bool_]]:
    count, n = strain.shape
    for name, shape in (("stress", (count, n)), ("tangent", (count, n, n)), ("failed", (count,))):
        found = tuple(getattr(answer, name).shape)
        if found != shape:
            raise SponError(f"the micromodel's {name} is of shape {found}; allowed: {shape}")
    stress, tangent = _array(answer.stress), _array(answer.tangent)
    finite = np.isfinite(stress).all(axis=1) & np.isfinite(tangent).all(axis=(1, 2))
    indicator = np.full(count, np.nan) if answer.indicator is None else _array(answer.indicator)
    second = np.zeros(count, bool) if answer.fallback is None else answer.fallback.cpu().numpy()
    return MicroState(strain, stress, tangent, indicator, second), answer.failed.cpu().numpy() | ~finite


def _array(values: torch.Tensor) -> Floats:
    out: Floats = values.detach().to("cpu", torch.float64).numpy()
    return out
