"""Costs over orders of magnitude: the quick arm is found, slow and failing ones are left alone."""

import json

import numpy as np
import pytest

from spon.errors import SponError
from spon.selection import Selection

COSTS = np.array([3.0, 1.0, 1.5, 100.0, 8.0, 1.2])


def play(selection, rounds, costs, rng):
    """Return the arms chosen and what they cost, with log-normal noise of 10 %."""
    arms, paid = np.empty(rounds, dtype=int), np.empty(rounds)
    for t in range(rounds):
        arms[t] = selection.choose()
        paid[t] = costs[arms[t]] * np.exp(0.1 * rng.standard_normal())
        selection.cost(paid[t])
    return arms, paid


@pytest.mark.parametrize("unit", [1e-6, 1e3])
def test_the_average_cost_comes_near_that_of_the_best_arm(unit):
    runs = [play(Selection(6, seed), 1500, unit * COSTS, np.random.default_rng(seed)) for seed in range(5)]
    for arms, paid in runs:
        assert list(dict.fromkeys(arms[:12])) == list(range(6))  # in order
        assert np.mean(arms == 1) > 0.6
        assert (arms == 3).sum() <= 2  # 100 times slower: again after 100 rounds, and then 2000
        assert paid[6:].mean() < 1.25 * unit
    assert np.mean([paid[750:].mean() for _, paid in runs]) < 1.2 * unit


def test_costs_that_change_are_noticed():
    rng, selection = np.random.default_rng(0), Selection(3, 0)
    play(selection, 300, np.array([1.0, 2.0, 2.5]), rng)
    arms, _ = play(selection, 1500, np.array([20.0, 2.0, 2.5]), rng)
    assert np.mean(arms[-500:] == 0) < 0.05


def test_failing_arms_rest_and_dropped_arms_are_gone():
    selection = Selection(3, 0)
    chosen = []
    for _ in range(400):
        arm = selection.choose()
        chosen.append(arm)
        if arm == 0:
            selection.failure(1.5)
        else:
            selection.cost(1.0 + arm)
    assert 2 <= chosen.count(0) <= 4
    gaps = np.diff(np.flatnonzero(np.array(chosen) == 0))
    assert (gaps > [100 * 2**k for k in range(len(gaps))]).all()
    selection.drop(1)
    selection.drop(0)
    assert {selection.choose() for _ in range(30)} == {2}
    selection.drop(2)
    assert selection.choose() is None
    with pytest.raises(SponError, match="without an arm"):
        selection.cost(1.0)


@pytest.mark.parametrize("bad", [0.0, np.inf, np.nan])
def test_impossible_costs_are_refused(bad):
    selection = Selection(2)
    selection.choose()
    with pytest.raises(SponError, match="positive and finite"):
        selection.cost(bad)


def test_a_restored_selection_goes_on_alike():
    rng = np.random.default_rng(5)
    selection, other = Selection(6, 3), Selection(6, 8)
    play(selection, 40, COSTS, rng)
    other.restore(json.loads(json.dumps(selection.state())))
    for _ in range(60):
        arm = selection.choose()
        assert other.choose() == arm
        selection.cost(COSTS[arm])
        other.cost(COSTS[arm])
    assert selection.usual == other.usual


def test_a_first_cost_that_does_not_recur_is_forgotten():
    selection = Selection(2)
    firsts, later, chosen = [9.0, 2.0], [1.0, 2.0], []
    for _ in range(40):
        arm = selection.choose()
        new = arm not in chosen
        chosen.append(arm)
        selection.cost(firsts[arm] if new else later[arm], recurs=not (new and arm == 0))
        assert np.isnan(selection.own[0]) == (len(chosen) == 1)  # others would believe it
    assert chosen[:3] == [0, 0, 1]  # one more try of the arm whose first cost said little
    np.testing.assert_array_equal(selection.costs, later)
    assert chosen.count(0) > 30


def test_trials_of_others_are_not_repeated():
    selection = Selection(6, 0)
    selection.order([0, 2, 4, 1, 3, 5])
    chosen = []
    for _ in range(60):
        chosen.append(selection.choose())
        selection.cost(COSTS[chosen[-1]])
        if len(chosen) == 2:
            assert selection.untried
            selection.learn(10 * np.where(np.arange(6) == 5, np.nan, COSTS))  # a machine ten times slower
            np.testing.assert_allclose(selection.costs[:5], COSTS[:5])
    assert list(dict.fromkeys(chosen))[:2] == [0, 2]
    assert 5 in chosen  # nobody had tried it
    assert not {3, 4} & set(chosen)  # far slower, they say
    assert chosen.count(1) > 30  # never tried here before it was known to be the best
    assert not selection.untried
    np.testing.assert_array_equal(np.isnan(selection.own), [False, False, False, True, True, False])


def test_an_arm_that_rests_is_used_where_it_is_the_quickest_left():
    selection = Selection(2, 0)
    for cost in (1.0, 5.0):
        selection.choose()
        selection.cost(cost)
    selection.drop(0)
    assert selection.choose() == 1
    selection.cost(5.0)
    selection.choose()
    selection.slow(7.0)
    assert selection.choose() == 1


@pytest.mark.parametrize("recurs", [True, False])
def test_a_stall_does_not_hide_a_good_arm(recurs):
    selection = Selection(3, 0)
    chosen = []
    for _ in range(60):
        arm = selection.choose()
        chosen.append(arm)
        stalled = arm == 1 and chosen.count(1) == (1 if recurs else 2)
        selection.cost({0: 1.0, 1: 2.5 if stalled else 0.8, 2: 2.5}[arm], recurs=recurs)
    assert chosen.count(1) > 45
    assert 1 <= chosen.count(2) <= 3  # once more at most: it was no stall


def test_one_stall_does_not_end_the_time_of_the_quickest():
    selection = Selection(2, 0, stall=30.0)
    chosen = []
    for _ in range(100):
        chosen.append(selection.choose())
        if chosen[-1] == 0 and chosen.count(0) in (1, 20, 40):  # the first one too
            selection.slow(20.0)
        else:
            selection.cost([1.0, 1.4][chosen[-1]])
    assert chosen.count(0) > 85


def test_a_burst_of_stalls_is_not_the_end_either():
    selection = Selection(2, 0)
    chosen = []
    for _ in range(200):
        chosen.append(selection.choose())
        stalled = chosen[-1] == 0 and 20 <= chosen.count(0) < 25
        selection.cost(10.0 if stalled else [1.0, 1.4][chosen[-1]])
    assert chosen[-100:].count(0) > 85
