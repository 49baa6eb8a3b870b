"""Which of several ways to do the same job: tried, timed, and the quick ones taken more and more often."""

from __future__ import annotations

from typing import Any

import numpy as np

from spon.bandit import TsallisInf
from spon.errors import SponError

__all__ = ["Selection"]

_WORST = 2.0  # times the usual cost: loss 1. Near 1 so that small differences count, and one outlier does not
_KNOWN = 10.0  # rounds that the first try of each arm counts for: wall times vary by little
_HOPELESS = 3.0  # times the usual cost: such an arm is set aside
_REST = 10  # times cost / usual: the rounds that it rests, so that a visit adds a tenth; doubles each time
_FIRST = 100  # rounds at most the first time: a machine may have stalled
_MEMORY = 5  # latest costs that count: costs may drift


class Selection:
    """Choose arms by their costs, which have no bound that is known beforehand.

    Each arm is tried once, in the order given, and once more if its first cost had a part that does not
    recur; then `TsallisInf` draws. What an arm costs is the median of
    its last five costs, which a machine that stalls at times does not upset; the usual cost is that of the
    cheapest arm. A cost c becomes the loss c / usual − 1, cut off at 0 and 1: the quickest arm loses about
    nothing, one of twice its cost or more loses 1. Had losses been scaled by the largest cost seen, one slow
    arm would make all others look alike. An arm that costs r ≥ 3 times the usual, or failed at r times the
    usual, rests for 10 r rounds (at first 100 at most), then 20 r, 40 r, …: even logarithmically few visits
    to an arm a hundred times slower would cost more than all others.

    Args:
        arms: number of arms.
        seed: of the draws.

    Attributes:
        costs: (arms,) what each costs; NaN before it was tried.
    """

    def __init__(self, arms: int, seed: int = 0) -> None:
        self._bandit = TsallisInf(arms, np.random.default_rng(seed))
        self.costs = np.full(arms, np.nan)
        self._recent: list[list[float]] = [[] for _ in range(arms)]
        self._tries = np.zeros(arms, dtype=np.int64)
        self._strikes = np.zeros(arms, dtype=np.int64)
        self._free_at = np.zeros(arms, dtype=np.int64)  # round at which an arm may be drawn again
        self._dropped = np.zeros(arms, dtype=bool)
        self._again = np.zeros(arms, dtype=bool)  # to be tried a second time
        self._round = 0
        self._drawn: tuple[int, float | None] | None = None

    @property
    def usual(self) -> float:
        """The cost of the cheapest arm; infinity before the first try."""
        return float(np.nanmin(self.costs)) if np.isfinite(self.costs).any() else np.inf

    def choose(self) -> int | None:
        """Return the number of an arm, whose cost or failure has to be told next; None: none is left."""
        self._round += 1
        left = ~self._dropped
        untried = np.flatnonzero(left & ((self._tries == 0) | self._again))
        untried = untried[np.argsort(self._tries[untried], kind="stable")]
        allowed = left & (self._free_at <= self._round)
        if len(untried):
            self._drawn = int(untried[0]), None
        elif allowed.any():
            arm = self._bandit.choose(allowed)
            self._drawn = arm, float(self._bandit.probabilities(allowed)[arm])
        else:
            self._drawn = None
        return None if self._drawn is None else self._drawn[0]

    def cost(self, value: float, recurs: bool = True) -> None:
        """Tell what the chosen arm has cost.

        Args:
            value: positive, in any unit that is the same for all arms.
            recurs: whether it will cost as much again; if not, a first cost is forgotten at the second.

        Raises:
            SponError: not positive, or no arm was chosen.
        """
        arm = self._take(value, failed=False, recurs=recurs)
        if self._again[arm]:
            return
        if self.costs[arm] >= _HOPELESS * self.usual:
            self._set_aside(arm, self.costs[arm])
        else:
            self._strikes[arm] = 0

    def failure(self, value: float) -> None:
        """Tell that the chosen arm has failed: loss 1, and a rest.

        Args:
            value: what the attempt has cost, and what was done instead.
        """
        self._set_aside(self._take(value, failed=True), value)

    def drop(self, arm: int) -> None:
        """Never choose an arm again."""
        self._dropped[arm], self._again[arm] = True, False
        self.costs[arm] = np.nan

    def _take(self, value: float, failed: bool, recurs: bool = True) -> int:
        if self._drawn is None:
            raise SponError("a cost without an arm; allowed: one for each arm chosen")
        if not 0.0 < value < np.inf:
            raise SponError(f"cost {value}; allowed: positive and finite")
        (arm, probability), self._drawn = self._drawn, None
        predicted = self._loss(self.costs)
        self._tries[arm] += 1
        if self._again[arm]:
            self._recent[arm] = []
        self._again[arm] = self._tries[arm] == 1 and not recurs
        self._recent[arm] = [*self._recent[arm], value][-_MEMORY:]
        self.costs[arm] = _lower_median(self._recent[arm])
        if probability is not None:
            loss = 1.0 if failed else float(self._loss(np.array(value)))
            self._bandit.update(arm, loss, probability, predicted)
        elif (self._dropped | ((self._tries > 0) & ~self._again)).all():
            self._bandit.expect(self._loss(self.costs), _KNOWN)
        return arm

    def _loss(self, costs: Any) -> Any:
        return np.nan_to_num(np.clip((costs / self.usual - 1.0) / (_WORST - 1.0), 0.0, 1.0), nan=1.0)

    def _set_aside(self, arm: int, cost: float) -> None:
        rest = _REST * max(1.0, cost / self.usual)
        rest = rest * 2.0 ** int(self._strikes[arm]) if self._strikes[arm] else min(rest, _FIRST)
        self._free_at[arm] = self._round + 1 + int(min(rest, 1e15))
        self._strikes[arm] += 1

    def state(self) -> dict[str, Any]:
        """Return all that the next choices depend on, as JSON can hold it."""
        names = ("_tries", "_strikes", "_free_at", "_dropped", "_again")
        arrays = {name[1:]: getattr(self, name).tolist() for name in names}
        return arrays | {"recent": self._recent, "round": self._round, "bandit": self._bandit.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: from `state` of a selection among as many arms.

        Raises:
            SponError: another number of arms.
        """
        self._bandit.restore(state["bandit"])
        for name in ("tries", "strikes", "free_at"):
            setattr(self, f"_{name}", np.array(state[name], dtype=np.int64))
        self._dropped[:] = state["dropped"]
        self._again[:] = state["again"]
        self._recent = [list(costs) for costs in state["recent"]]
        self.costs[:] = [_lower_median(costs) if costs else np.nan for costs in self._recent]
        self.costs[self._dropped] = np.nan
        self._round, self._drawn = int(state["round"]), None


def _lower_median(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]
