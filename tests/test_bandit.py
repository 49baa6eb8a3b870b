"""The bandit finds the best arm, keeps its promise against an adversary, and can be put away."""

import json

import numpy as np
import pytest

from spon.bandit import TsallisInf
from spon.errors import SponError


def play(losses, seed=0):
    """Draw an arm in each round of losses (rounds, arms); return the arms drawn."""
    bandit = TsallisInf(losses.shape[1], np.random.default_rng(seed))
    drawn = np.empty(len(losses), dtype=int)
    for t, row in enumerate(losses):
        p = bandit.probabilities()
        drawn[t] = bandit.choose()
        bandit.update(drawn[t], row[drawn[t]], p[drawn[t]])
    return drawn


def test_the_best_arm_gets_most_pulls():
    rng = np.random.default_rng(1)
    rounds, means = 3000, np.array([0.5, 0.2, 0.45, 0.8, 0.6])
    cost = 0.0
    for seed in range(4):
        losses = (rng.random((rounds, 5)) < means).astype(float)
        drawn = play(losses, seed)
        assert np.mean(drawn == 1) > 0.85
        assert np.mean(drawn[rounds // 2 :] == 1) > 0.93  # and ever more of them
        cost += means[drawn].mean() / 4
    assert cost < 1.2 * means[1]


@pytest.mark.parametrize("period", [25, 400, 1500])
def test_regret_against_an_adversary_is_bounded(period):
    rounds, arms = 3000, 4
    good = (np.arange(rounds) // period) % 2  # arms 0 and 1 take turns; arm 0 is best in total
    losses = np.full((rounds, arms), 0.9)
    losses[np.arange(rounds), good] = 0.0
    losses[:, 0] *= 0.8
    rows = np.arange(rounds)
    cost = np.mean([losses[rows, play(losses, seed)].sum() for seed in range(5)])
    assert cost - losses.sum(axis=0).min() <= 4 * np.sqrt(arms * rounds) + 1
    assert cost < 0.75 * losses.mean(axis=1).sum()  # better than drawing blindly


def test_probabilities_solve_the_equation():
    rng = np.random.default_rng(2)
    bandit = TsallisInf(6, rng)
    np.testing.assert_allclose(bandit.probabilities(), 1 / 6)
    for scale in (1.0, 1e3, 1e8):
        bandit.restore(bandit.state() | {"losses": list(scale * rng.random(6)), "rounds": 99})
        p, losses = bandit.probabilities(), np.array(bandit.state()["losses"])
        assert p.sum() == pytest.approx(1.0, abs=1e-14)
        # losses − x = 2 / (η √p), with one x for all arms
        x = losses - 2 / (2 / np.sqrt(100) * np.sqrt(p))
        np.testing.assert_allclose(x, x[0], rtol=1e-8, atol=1e-8)


def test_arms_can_be_left_out():
    bandit = TsallisInf(4, np.random.default_rng(3))
    allowed = np.array([False, True, False, True])
    assert {bandit.choose(allowed) for _ in range(50)} == {1, 3}
    with pytest.raises(SponError, match="at least 1"):
        bandit.choose(np.zeros(4, dtype=bool))


def test_a_restored_bandit_draws_the_same_arms():
    bandit = TsallisInf(3, np.random.default_rng(4))
    for arm in (0, 1, 1, 2):
        bandit.update(arm, 0.3 * arm, 0.4)
    other = TsallisInf(3, np.random.default_rng(99))
    other.restore(json.loads(json.dumps(bandit.state())))
    assert [bandit.choose() for _ in range(20)] == [other.choose() for _ in range(20)]
    with pytest.raises(SponError, match="a state of 3 arms"):
        TsallisInf(2, np.random.default_rng(0)).restore(bandit.state())


@pytest.mark.parametrize(
    ("arm", "loss", "p"), [(3, 0.5, 0.5), (0, 1.5, 0.5), (0, 0.5, 0.0), (0, np.nan, 0.5)]
)
def test_values_out_of_range_are_refused(arm, loss, p):
    with pytest.raises(SponError, match="allowed: 0 to 2"):
        TsallisInf(3, np.random.default_rng(0)).update(arm, loss, p)
    with pytest.raises(SponError, match="at least 1"):
        TsallisInf(0, np.random.default_rng(0))
