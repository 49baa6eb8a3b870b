"""Newton's method for one load step of a macroscopic problem."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spon.errors import SponError
from spon.multiscale.macro_system import MacroSystem
from spon.multiscale.micro_calls import MicroCalls, MicroState, place

__all__ = ["LoadStep", "MacroNewton", "MacroState", "NotConvergedError"]

Floats = npt.NDArray[np.float64]

_SEARCH = 0.8  # share of the work of the residual on the full step that a step may leave
_TRIALS = 10


class NotConvergedError(SponError):
    """A load step failed; a part of it may succeed."""


@dataclass(frozen=True)
class MacroState:
    """A state of the body.

    Args:
        load: share of the full load.
        values: (owned DoFs,) displacements.
        internal: (owned DoFs,) internal forces.
        micro: at the points of this rank.
    """

    load: float
    values: Floats
    internal: Floats
    micro: MicroState


@dataclass(frozen=True)
class LoadStep:
    """What one load step took.

    Args:
        load: share of the full load, 0 < load ≤ 1.
        residuals: unbalanced forces relative to the larger of internal and external forces, after each
            iteration.
        calls: of the microscale, on each rank with points.
        points: of all ranks.
        fallback: of these, the points that a second model answered at the end.
        seconds: wall time on rank 0.
    """

    load: float
    residuals: tuple[float, ...]
    calls: int
    points: int
    fallback: int
    seconds: float

    @property
    def iterations(self) -> int:
        """Newton iterations."""
        return len(self.residuals)

    def __str__(self) -> str:
        text = (
            f"load {self.load:.4g}: {self.iterations} iterations, residual {self.residuals[-1]:.1e}, "
            f"{self.calls} calls, {self.seconds:.2f} s"
        )
        return text + (f", fallback at {self.fallback} of {self.points} points" if self.fallback else "")


class MacroNewton:
    """Newton's method with a line search on the work of the residual. Collective.

    Args:
        system: forces and matrices.
        micro: the microscale.
        external: (owned DoFs,) forces at full load.
        rtol: of the unbalanced forces.
        max_iterations: ≥ 1.
    """

    def __init__(
        self, system: MacroSystem, micro: MicroCalls, external: Floats, rtol: float, max_iterations: int
    ) -> None:
        self._system, self._micro, self._external = system, micro, external
        self._rtol, self._most = rtol, max_iterations

    def at_rest(self) -> MacroState:
        """Return the unloaded state.

        Raises:
            SponError: as `advance`.
        """
        return self._at(0.0, np.zeros(self._system.order.owned))

    def advance(self, state: MacroState, load: float) -> tuple[MacroState, LoadStep]:
        """Go from one load to another.

        Args:
            state: at the first.
            load: the second.

        Raises:
            NotConvergedError: on all ranks, with iterations, residual and the point of the largest strain.
            NoAnswerError: on all ranks, a point without an answer.
            SponError: on all ranks, what the micromodel raises.
        """
        begun, calls = time.perf_counter(), self._micro.calls
        system = self._system
        change = (load - state.load) * system.constraint.shift
        state = MacroState(load, state.values, state.internal, state.micro)
        residuals: list[float] = []
        while len(residuals) < self._most:
            forces = self._forces(state)
            try:
                step = system.step(state.micro.tangent, forces, change)
            except SponError as error:  # on all ranks
                raise NotConvergedError(self._failure(str(error), state, residuals)) from error
            if change.any():
                state, change = self._at(load, state.values + step), np.zeros_like(change)
            else:
                state = self._search(state, forces, step, residuals)
            residuals.append(self._residual(state))
            if residuals[-1] <= self._rtol:
                points, fallback = len(state.micro.strain), int(state.micro.fallback.sum())
                points, fallback = (int(k) for k in np.sum(system.comm.allgather((points, fallback)), axis=0))
                seconds = time.perf_counter() - begun
                done = (tuple(residuals), self._micro.calls - calls, points, fallback, seconds)
                return state, LoadStep(load, *done)
        raise NotConvergedError(self._failure("no convergence", state, residuals))

    def _at(self, load: float, values: Floats) -> MacroState:
        micro = self._micro(self._system.strain(values))
        return MacroState(load, values, self._system.internal(micro.stress), micro)

    def _forces(self, state: MacroState) -> Floats:
        return state.internal - state.load * self._external

    def _residual(self, state: MacroState) -> float:
        size = max(self._system.size(state.internal), state.load * self._system.size(self._external))
        left = self._system.unbalanced(self._forces(state))
        return left / size if size else left

    def _search(self, state: MacroState, forces: Floats, step: Floats, residuals: list[float]) -> MacroState:
        """Return the state after the step, or after the part of it that leaves little enough work."""
        first, part = self._system.dot(forces, step), 1.0
        if first > 0:
            raise NotConvergedError(self._failure("the stiffness is not positive definite", state, residuals))
        for _ in range(_TRIALS):
            trial = self._at(state.load, state.values + part * step)
            left = self._system.dot(self._forces(trial), step)
            if abs(left) <= _SEARCH * abs(first) or self._residual(trial) <= self._rtol:
                return trial
            part *= float(np.clip(first / (first - left), 0.1, 0.5))
        raise NotConvergedError(self._failure("the line search failed", trial, residuals))

    def _failure(self, why: str, state: MacroState, residuals: list[float]) -> str:
        """Return what went wrong, with the point of the largest strain. Collective."""
        strain, mine = state.micro.strain, (-1.0, "")
        if len(strain):
            sizes = np.linalg.norm(strain, axis=1)
            largest = int(sizes.argmax())
            mine = (float(sizes[largest]), place(self._system.points, strain, largest))
        where = max(self._system.comm.allgather(mine))[1]
        left = residuals[-1] if residuals else self._residual(state)
        return f"{why} after {len(residuals)} iterations, residual {left:.3g}; largest strain at {where}"
