"""The solver of a cell: derivatives, starts, line search, factorisations."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from rves import SOFT, chequered, strains

from spon.multiscale.factorisation import NotPositiveDefinite, _Mumps, _SuperLU
from spon.multiscale.materials import Material
from spon.multiscale.voigt import deviatoric_square, trace


def test_the_tangent_is_the_derivative_of_the_stress(cell, solved):
    E, found = solved
    h = 1e-5
    for k in range(3):
        step = h * torch.eye(3, dtype=torch.float64)[k]
        slope = (cell.solve(E + step).stress - cell.solve(E - step, found.fluctuation).stress) / (2 * h)
        error = (found.tangent[:, :, k] - slope).abs().max()
        assert error < 1e-6 * found.tangent.abs().max()
    assert (found.tangent - found.tangent.mT).abs().max() <= 1e-12 * found.tangent.abs().max()
    assert torch.linalg.eigvalsh(found.tangent).min() > 0


def test_the_stress_is_the_derivative_of_the_mean_potential(cell):
    E, h = strains(3, 1), 1e-5

    def potential(strain):
        local = cell.strains(strain, cell.solve(strain).fluctuation)
        return float((cell.potentials(local)[0] * torch.as_tensor(cell.weights)).sum()) / cell.volume

    stress = cell.solve(E).stress[0]
    for k in range(3):
        step = h * torch.eye(3, dtype=torch.float64)[k]
        slope = (potential(E + step) - potential(E - step)) / (2 * h)
        assert float(stress[k]) == pytest.approx(slope, rel=1e-6)


def test_the_result_does_not_depend_on_the_start(cell, solved):
    E, found = solved
    start = found.fluctuation.roll(1, 0)
    again = cell.solve(E, start)
    torch.testing.assert_close(again.stress, found.stress, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(again.fluctuation, found.fluctuation, rtol=1e-8, atol=1e-12)
    assert (cell.solve(E, found.fluctuation).iterations == 0).all()
    zero = cell.solve(torch.zeros(1, 3, dtype=torch.float64))
    assert zero.stress.abs().max() == 0
    assert len(cell.solve(E[:0]).stress) == 0


def test_a_loose_answer_is_off_by_the_square_of_its_tolerance(cell, solved):
    E, found = solved
    errors = []
    for tolerance in (1e-2, 1e-4, 1e-6):
        answers = [cell.solver.answer(strain, tolerance=tolerance) for strain in E]
        stress = torch.stack([answer.stress for answer in answers])
        errors.append(float(((stress - found.stress).norm(dim=1) / found.stress.norm(dim=1)).max()))
        assert errors[-1] <= 10 * tolerance**2 + 1e-12
    assert errors[0] > 1e-8  # the claim is about something
    tangent = torch.stack([answer.tangent for answer in answers])
    assert (tangent - found.tangent).abs().max() <= 1e-7 * found.tangent.abs().max()


def test_sensitivities_are_the_derivative_of_the_fluctuation(cell):
    E, h = strains(3, 1)[0], 1e-5
    answer = cell.solver.answer(E, tolerance=1e-10)
    for k in range(3):
        step = h * torch.eye(3, dtype=torch.float64)[k]
        ends = [cell.solver.answer(E + sign * step, answer.free, tolerance=1e-12).free for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * h)
        assert np.abs(answer.sensitivity[:, k] - slope).max() <= 1e-4 * np.abs(slope).max()


def test_both_factorisations_solve(rng):
    A = sp.random_array((30, 30), density=0.1, rng=rng)
    A = sp.csr_array(A + A.T + 20 * sp.eye_array(30))
    A.sort_indices()
    b = rng.standard_normal((30, 2))
    for kind in (_Mumps, _SuperLU):
        factor = kind(A)
        for scale in (1.0, 2.0):
            factor.update(scale * A.data)
            np.testing.assert_allclose(scale * (A @ factor.solve(b)), b, atol=1e-12)
        with pytest.raises(NotPositiveDefinite):
            factor.update(sp.csr_array(A - 40 * sp.eye_array(30)).data)


class Saturating(Material):
    """Convex; the stress grows as arctan, so that Newton's method overshoots."""

    def potential(self, strain):
        square = 1e4 * (trace(strain) ** 2 + deviatoric_square(strain))
        return (1 + square).sqrt() + 1e-7 * square


def test_a_step_that_is_too_long_is_halved():
    """A law that stiffens suddenly: full steps overshoot."""
    rve = chequered(laws=(Saturating(), SOFT))
    E = torch.tensor([[0.3, -0.1, 0.6]], dtype=torch.float64)
    start = 20 * rve.solve(E / 100).fluctuation
    found, alike = rve.solve(E), rve.solve(E, start)
    torch.testing.assert_close(alike.stress, found.stress, rtol=1e-9, atol=1e-12)
