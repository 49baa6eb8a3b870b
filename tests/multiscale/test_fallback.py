"""Points in doubt, which a second model answers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from macros import SOFT, STIFF, Partial, cantilever, displacement, on_mesh

import spon


def test_the_fallback_answers_the_doubtful_points_and_no_others(rng):
    strain = torch.from_numpy(rng.uniform(-0.04, 0.04, size=(50, 3)))
    strain[7, 2] = math.nan
    where = torch.arange(100, 150)
    quick, sure = Partial(STIFF, limit=0.035), Partial(SOFT)
    model = spon.WithFallback(quick, sure, 0.02)
    answer = model.respond(strain, where)
    expected = ~(strain[:, 2].abs() <= 0.02)
    assert 0 < expected.sum() < 50
    assert torch.equal(answer.fallback, expected)
    (asked,) = sure.asked
    assert torch.equal(asked[1], where[expected])
    for part, law in ((expected, SOFT), (~expected, STIFF)):
        stress, tangent = law.response(strain[part])
        assert torch.equal(answer.stress[part].nan_to_num(), stress.nan_to_num())
        assert torch.equal(answer.tangent[part].nan_to_num(), tangent.nan_to_num())
    assert (model.calls, model.solved) == (1, int(expected.sum()))
    again = model.respond(torch.zeros_like(strain), where)
    assert torch.equal(again.fallback, expected)  # a point does not change its law and back
    model.forget()
    assert not model.respond(torch.zeros_like(strain), where).fallback.any()
    failures = spon.WithFallback(quick, sure, math.inf).respond(strain)
    assert torch.equal(failures.fallback, (strain[:, 2].abs() > 0.035) | strain[:, 2].isnan())


class Ranged(Partial):
    """Knows nothing where γ_xy > 0.02: the indicator is infinite there, as a surrogate's outside its box."""

    def respond(self, strain, where=None):
        answer = super().respond(strain, where)
        return replace(answer, indicator=answer.indicator.masked_fill(strain[:, 2] > 0.02, math.inf))


@pytest.mark.parametrize("threshold", [0.5, math.inf])
def test_what_leaves_the_trained_range_falls_back_whatever_the_threshold(rng, threshold):
    strain = torch.from_numpy(rng.uniform(-0.04, 0.04, size=(50, 3)))
    answer = spon.WithFallback(Ranged(), spon.MaterialModel(STIFF), threshold).respond(strain)
    assert torch.equal(answer.fallback, strain[:, 2] > 0.02)


def test_points_outside_the_trained_range_are_counted():
    with cantilever(on_mesh(n=4), traction=8.0) as problem:
        solution = problem.solve(Ranged())
    outside = int((solution.micro.strain[:, 2] > 0.02).sum())
    assert outside > 0
    assert any(line.startswith(f"{outside} points outside the trained range") for line in solution.summary())


def test_a_fallback_refuses_what_cannot_be():
    plain = spon.MaterialModel(SOFT)
    with pytest.raises(spon.SponError, match=r"threshold = 0; allowed|threshold = 0\.0"):
        spon.WithFallback(plain, plain, 0.0)
    with pytest.raises(spon.SponError, match=r"3 components.*of 6; allowed"):
        spon.WithFallback(plain, spon.MaterialModel(SOFT, 6), 0.1)
    with pytest.raises(spon.SponError, match=r"without an indicator; allowed"):
        spon.WithFallback(plain, plain, 0.1).respond(torch.zeros(2, 3, dtype=torch.float64))


@pytest.mark.mpi
def test_with_a_fallback_the_solution_is_within_tolerance_everywhere():
    mesh = on_mesh(n=4)
    sure = spon.MaterialModel(SOFT)
    lines = []
    with cantilever(mesh, traction=8.0) as problem:
        expected = problem.solve(sure)
        model = spon.WithFallback(Partial(SOFT, limit=0.02), sure, 0.015)
        solution = problem.solve(model, lines.append)
    assert np.abs(displacement(solution) - displacement(expected)).max() <= 1e-12
    fallback = solution.gather(solution.micro.fallback)
    shear = np.abs(solution.gather(solution.micro.strain)[:, 2])
    assert 0 < solution.fallback == fallback.sum() < len(fallback)
    assert (shear[~fallback] <= 0.015).all()
    assert f"fallback at {fallback.sum()} of {len(fallback)} points" in lines[-1]
    assert solution.summary()[2] == f"fallback at {fallback.sum()} of {len(fallback)} points"
    assert {"u", "stress_xx", "indicator", "fallback"} <= set(solution.fields)
