"""Which of several ways to do the same job: tried, timed, and the quick ones taken more and more often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.bandit import TsallisInf
from spon.errors import SponError

__all__ = ["Selection"]

Floats = npt.NDArray[np.float64]
_HOPELESS = 1.5  # times the usual cost: loss 1, and the arm is set aside
_DOUBTFUL = 3.0  # times the usual cost: below, one more try
_KNOWN = 100.0  # rounds that the present costs count for: wall times vary by little
_REST = 100  # times cost / usual: the rounds that such an arm rests; doubles each time
_FIRST = 400  # rounds at most the first time: a machine may have stalled
_MEMORY = 8  # latest costs that count: costs may drift


class Selection:
    """Choose arms by their costs, which have no bound that is known beforehand.

    Each arm is tried once, in the order given, and at once again if its first cost had a part that does not
    recur, or may be that of a good arm on a machine that stalled: below three times the usual, or below
    `stall`. Then `TsallisInf` draws. What an arm costs is the lower quartile of its last eight costs, which
    not even a burst of stalls upsets; the usual cost is that of the cheapest arm. A cost c becomes the loss
    2 (c / usual − 1), cut off at 0 and 1: the quickest arm loses about nothing, one of 1.5 times its cost or
    more loses 1. Had losses been scaled by the largest cost seen, one slow arm would make all others look
    alike. An arm that costs r ≥ 1.5 times the usual, or failed at r times the usual, rests for 100 r rounds
    (at first 400 at most), then 200 r, 400 r, …: even logarithmically few visits to an arm a hundred times
    slower would cost more than all others.

    Every trial is a loss: with a arms, each tried at w times the usual cost, the average over n rounds is at
    best 1 + (a − 1) w / n. So give the likely quickest arm first and stop the others soon (w < 1), and use
    what others have found out (`learn`).

    Args:
        arms: number of arms.
        seed: of the draws.
        stall: what a stall of the machine may add to any cost.

    Attributes:
        costs: (arms,) what each costs; NaN where that is not known.
    """

    def __init__(self, arms: int, seed: int = 0, stall: float = 0.0) -> None:
        self._stall = stall
        self._bandit = TsallisInf(arms, np.random.default_rng(seed))
        self.costs = np.full(arms, np.nan)
        self._recent: list[list[float]] = [[] for _ in range(arms)]
        self._order = np.arange(arms)  # in which arms are tried
        self._tries = np.zeros(arms, dtype=np.int64)
        self._strikes = np.zeros(arms, dtype=np.int64)
        self._free_at = np.zeros(arms, dtype=np.int64)  # round at which an arm may be drawn again
        self._dropped = np.zeros(arms, dtype=bool)
        self._failed = np.zeros(arms, dtype=bool)  # when it was chosen last
        self._forget = np.zeros(arms, dtype=bool)  # the first cost, since it does not recur
        self._round = 0
        self._drawn: tuple[int, float | None] | None = None

    @property
    def usual(self) -> float:
        """The cost of the cheapest arm that does not fail; infinity before the first try."""
        return float(self.costs[self.best]) if self.best is not None else np.inf

    @property
    def best(self) -> int | None:
        """The cheapest arm among those that are left and did not fail when they were chosen last."""
        costs = np.where(self._dropped | self._failed, np.nan, self.costs)
        return int(np.nanargmin(costs)) if np.isfinite(costs).any() else None

    @property
    def untried(self) -> bool:
        """Whether there are arms of which no cost is known."""
        return bool((np.isnan(self.costs) & ~self._dropped).any())

    @property
    def own(self) -> Floats:
        """(arms,) costs without those learnt from others and those that do not recur; NaN: there is none."""
        known = [_lower_quartile(costs) if costs else np.nan for costs in self._recent]
        return np.where(self._dropped | self._again, np.nan, known)

    def order(self, arms: Sequence[int]) -> None:
        """Try arms in another order.

        Args:
            arms: the numbers of all.
        """
        self._order[:] = arms

    def choose(self) -> int | None:
        """Return the number of an arm, whose cost or failure has to be told next; None: none is left."""
        self._round += 1
        left = ~self._dropped
        new = left[self._order] & np.isnan(self.costs[self._order])
        allowed = left & (self._free_at <= self._round)
        if self.best is not None:
            allowed[self.best] = True  # also where it rests, since others were quicker once
        again = self._again
        if again.any():
            self._drawn = int(np.flatnonzero(again)[0]), None
        elif new.any():
            self._drawn = int(self._order[new][0]), None
        elif allowed.any():
            expected = _KNOWN * self._loss(self.costs)
            arm = self._bandit.choose(allowed, expected)
            self._drawn = arm, float(self._bandit.probabilities(allowed, expected)[arm])
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
        arm = self._take(value, failed=False)
        self._forget[arm] = self._tries[arm] == 1 and not recurs
        self._judge(arm)

    def slow(self, value: float) -> None:
        """Tell that the chosen arm was stopped because it would have cost too much: a rest.

        Args:
            value: what it would have cost, or more than which.
        """
        self._judge(self._take(value, failed=False))

    def failure(self, value: float) -> None:
        """Tell that the chosen arm has failed: loss 1, and a rest.

        Args:
            value: what the attempt has cost, and what was done instead.
        """
        self._set_aside(self._take(value, failed=True))

    def learn(self, costs: Floats) -> None:
        """Take over what others have found out about arms that were not tried here.

        Theirs may be another machine: their costs are scaled by the median ratio of the costs known to both.

        Args:
            costs: (arms,), NaN where they have none.
        """
        own = self.own
        both = np.isfinite(own) & np.isfinite(costs)
        scale = float(np.median(own[both] / costs[both])) if both.any() else 1.0
        for arm in np.flatnonzero(np.isnan(self.costs) & ~self._dropped & np.isfinite(costs)):
            self.costs[arm] = scale * costs[arm]
            if self.costs[arm] >= _HOPELESS * self.usual:
                self._set_aside(int(arm))

    def drop(self, arm: int) -> None:
        """Never choose an arm again."""
        self._dropped[arm] = True
        self.costs[arm] = np.nan

    def _slow(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.costs >= _HOPELESS * self.usual)

    @property
    def _again(self) -> npt.NDArray[np.bool_]:
        """(arms,) whether the only cost of an arm says little."""
        only = np.array([len(costs) == 1 for costs in self._recent]) & ~self._failed
        stalled = (self.costs < _DOUBTFUL * self.usual) | (self.costs < self._stall)
        return np.asarray((self._forget | (only & self._slow() & stalled)) & ~self._dropped)

    def _judge(self, arm: int) -> None:
        """Set an arm aside whose costs are too high."""
        if not self._slow()[arm]:
            self._strikes[arm] = 0
        elif not self._again[arm]:
            self._set_aside(arm)

    def _take(self, value: float, failed: bool) -> int:
        if self._drawn is None:
            raise SponError("a cost without an arm; allowed: one for each arm chosen")
        if not 0.0 < value < np.inf:
            raise SponError(f"cost {value}; allowed: positive and finite")
        (arm, probability), self._drawn = self._drawn, None
        predicted = self._loss(self.costs)
        self._tries[arm] += 1
        if self._forget[arm]:
            self._recent[arm] = []
        self._forget[arm] = False
        self._recent[arm] = [*self._recent[arm], value][-_MEMORY:]
        self.costs[arm] = _lower_quartile(self._recent[arm])
        self._failed[arm] = failed
        if probability is not None:
            loss = 1.0 if failed else float(self._loss(np.array(value)))
            self._bandit.update(arm, loss, probability, predicted)
        return arm

    def _loss(self, costs: Any) -> Any:
        return np.nan_to_num(np.clip((costs / self.usual - 1.0) / (_HOPELESS - 1.0), 0.0, 1.0), nan=1.0)

    def _set_aside(self, arm: int) -> None:
        ratio = self.costs[arm] / self.usual if np.isfinite(self.usual) else 1.0
        rest = _REST * max(1.0, ratio)
        rest = rest * 2.0 ** int(self._strikes[arm]) if self._strikes[arm] else min(rest, _FIRST)
        self._free_at[arm] = self._round + 1 + int(min(rest, 1e15))
        self._strikes[arm] += 1

    def state(self) -> dict[str, Any]:
        """Return all that the next choices depend on, as JSON can hold it."""
        names = ("_order", "_tries", "_strikes", "_free_at", "_dropped", "_failed", "_forget")
        arrays = {name[1:]: getattr(self, name).tolist() for name in names}
        learnt = [None if np.isnan(cost) else float(cost) for cost in self.costs]
        more = {"recent": self._recent, "costs": learnt, "round": self._round}
        return arrays | more | {"bandit": self._bandit.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: from `state` of a selection among as many arms.

        Raises:
            SponError: another number of arms.
        """
        self._bandit.restore(state["bandit"])
        for name in ("order", "tries", "strikes", "free_at", "dropped", "failed", "forget"):
            getattr(self, f"_{name}")[:] = state[name]
        self._recent = [list(costs) for costs in state["recent"]]
        self.costs[:] = [np.nan if cost is None else cost for cost in state["costs"]]
        self._round, self._drawn = int(state["round"]), None


def _lower_quartile(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 4]
