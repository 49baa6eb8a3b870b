"""Factors that cover: at least as often as promised, also from few cases."""

import pytest
import torch

import spon
from spon.multiscale.calibration import covering_factor


def test_many_cases_need_no_assumption():
    ratios = torch.arange(1.0, 100.0).double()
    assert covering_factor(ratios, 0.95) == 95  # the 95th of 99, covers 95 %
    assert covering_factor(ratios[:19].flip(0), 0.95) == 19
    assert covering_factor(ratios[:18], 0.95) == pytest.approx(18 * (20 / 19) ** 0.5)


@pytest.mark.parametrize("count", [4, 8, 10, 19, 40])
def test_further_cases_are_covered(count):
    """Ratios of a log-normal law; over many draws, the share of further ratios below the factor."""
    random = torch.Generator().manual_seed(count)
    drawn = (0.7 * torch.randn(4000, count + 1, generator=random)).exp().double()
    inside = [one[-1] <= covering_factor(one[:-1]) for one in drawn]
    assert sum(inside) / len(inside) > 0.93


def test_nothing_to_rest_on():
    with pytest.raises(
        spon.SponError, match=r"0 cases to cover 0\.95 of; allowed: 1 or more, between 0 and 1"
    ):
        covering_factor(torch.zeros(0))
    with pytest.raises(spon.SponError, match="3 cases to cover 1 of"):
        covering_factor(torch.ones(3), 1)
