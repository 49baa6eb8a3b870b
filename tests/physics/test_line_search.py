"""The line search: what it accepts, halves and leaves, where the potential is no finite number."""

import math

import pytest
import torch

from spon.physics.kernels.line_search import backtrack

ONE = torch.ones(1, 1, dtype=torch.float64)


def search(energy, start, direction, slope=None):
    """The end of one sample's step, and whether it was one."""
    u, step = start * ONE, direction * ONE
    slope = torch.autograd.functional.jvp(energy, u, step)[1] if slope is None else torch.tensor([slope])
    moved, ok = backtrack(energy, u, step, slope.double(), torch.zeros(1, dtype=torch.float64))
    return float(moved), bool(ok)


def parabola(u):
    return u.square().sum(dim=1)


def test_steps_are_halved_until_they_bring_their_share():
    assert search(parabola, 1.0, -1.0) == (0.0, True)
    assert search(parabola, 1.0, -3.0) == (-0.5, True)  # the whole step climbs
    assert search(parabola, 1.0, -2.0) == (0.0, True)  # the whole step keeps the height
    assert search(parabola, 1.0, 1.0) == (1.0, False)
    assert search(parabola, 1.0, 1e-300) == (1.0, True)  # round-off is no climb


@pytest.mark.parametrize("beyond", [math.inf, math.nan, -math.inf])
def test_it_stays_where_the_potential_is_finite(beyond):
    def energy(u):
        return torch.where(u[:, 0] < 0.0, beyond, u[:, 0].square())

    assert search(energy, 1.0, -3.0, -6.0) == (0.25, True)  # 1 - 3/4: both longer ones leave
    assert search(energy, 1.0, -1e9, -2e9) == (1.0, False)


@pytest.mark.parametrize("everywhere", [math.inf, math.nan])
def test_where_the_potential_is_nowhere_finite_nothing_moves(everywhere):
    assert search(lambda u: 0.0 * u[:, 0] + everywhere, 1.0, -1.0, -2.0) == (1.0, False)


def test_samples_of_a_batch_are_searched_alone():
    u = torch.tensor([[1.0], [1.0], [math.nan]], dtype=torch.float64)
    step = torch.tensor([[-1.0], [-3.0], [1.0]], dtype=torch.float64)
    slope = (2.0 * u * step)[:, 0]
    moved, ok = backtrack(parabola, u, step, slope, torch.zeros_like(slope))
    assert moved[:2, 0].tolist() == [0.0, -0.5]
    assert ok.tolist() == [True, True, False]
