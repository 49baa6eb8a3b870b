"""Corrections meet their tolerance against direct solves, always, or say that they do not."""

import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square
from mpi4py import MPI
from physics_cases import inputs, make

import spon

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF
METHODS = {"darcy": 1, "elasticity": 1, "notch": 1, "helmholtz": 0, "hyperelasticity": 0}


@pytest.mark.mpi
@pytest.mark.parametrize("case", METHODS)
def test_every_tolerance_is_met(case):
    problem = make(case, WORLD, METHODS[case])
    m = inputs(problem, 2).numpy()
    u = np.array([problem.solution(one).values for one in m])
    norm = spon.certificate(problem, "direct", "jacobian" if problem.definite else "riesz").norm
    noise = 0.02 * u.std() * np.random.default_rng(0).standard_normal(u.shape)
    for tolerance in (0.1, 1e-3, 1e-7):
        with spon.Correction(problem, tolerance) as correction:
            for k, wrong in enumerate((u + 0.1 * (u[::-1] - u), u[::-1], u + noise, 0 * u)):
                k = k % 2
                found = correction(wrong[k], m[k])
                exact, sample = torch.as_tensor(u[k])[None], torch.as_tensor(m[k])[None]
                error = norm.energy(torch.as_tensor(found.values)[None] - exact, exact, sample)
                relative = float(error / norm.energy(exact, exact, sample))
                assert relative <= found.bound + 1e-11
                assert found.bound <= tolerance
                shift = problem.shift(m[k])
                admissible = problem.constraint if shift is None else problem.constraint.with_shift(shift)
                assert admissible.violation(found.values[None]).max() < 1e-14 * np.abs(u).max()


@pytest.mark.mpi
def test_better_predictions_take_fewer_iterations_and_zero_is_counted():
    problem = Diffusion(on_square(3, 2, WORLD))
    (m,) = inputs(problem, 1).numpy()
    u = problem.solution(m).values
    wrong = np.sin(5 * u / np.abs(u).max()) * u
    with spon.Correction(problem, 1e-8) as correction:
        near, far = (correction(u + share * wrong, m, compare=True) for share in (1e-6, 1.0))
        assert near.iterations < far.iterations
        assert near.from_zero == far.from_zero == correction(0 * u, m).iterations


@pytest.mark.mpi
def test_a_solution_needs_hardly_any():
    problem = make("hyperelasticity", WORLD)
    (m,) = inputs(problem, 1).numpy()
    u = problem.solution(m).values
    with spon.Correction(problem, 1e-6) as correction:
        found = correction(u, m, compare=True)
        assert (found.iterations, found.restarted) == (1, False)
        assert found.from_zero > 2
        turned = u - 3.0 * np.random.default_rng(0).standard_normal(u.shape) * np.abs(u).max()  # cells fold
        found = correction(turned, m)
        assert found.restarted
        assert np.abs(found.values - u).max() < 1e-6 * np.abs(u).max()


class Negative(Diffusion):
    """Says that it is definite and is not."""

    def residual(self, u, m, v):
        return -super().residual(u, m, v)


@pytest.mark.mpi
def test_error_lines():
    problem = Diffusion(on_square(3, 1, WORLD))
    n = problem.discretisation.dofs
    for arguments, line in (
        ({"tolerance": 0.0}, "tolerance = 0.0; allowed: between 0 and 1"),
        ({"iterations": 0}, "iterations = 0; allowed: >= 1"),
        ({"method": "gmres"}, "method 'gmres'; allowed: 'cg', 'newton'"),
    ):
        with pytest.raises(spon.SponError, match=line):
            spon.Correction(problem, **arguments)
    with pytest.raises(
        spon.SponError, match="CG for Helmholtz, which is indefinite; allowed: method 'newton'"
    ):
        spon.Correction(make("helmholtz", WORLD), method="cg")
    with pytest.raises(
        spon.SponError, match=r"CG for Hyperelasticity, which is nonlinear; allowed: .*newton"
    ):
        spon.Correction(make("hyperelasticity", WORLD), method="cg")
    m = problem.sample(np.random.default_rng(0))
    rough = np.random.default_rng(1).standard_normal(n)
    unreachable = r"tolerance 1e-17 was not reached: .* at most \S*e-1[3-6] after"
    with spon.Correction(problem, 1e-17) as correction, pytest.raises(spon.SponError, match=unreachable):
        correction(rough, m)
    with spon.Correction(problem, 1e-8, iterations=3) as correction:
        with pytest.raises(spon.SponError, match=r"tolerance 1e-08 was not reached: .* after 3 iterations"):
            correction(rough, m)
        with pytest.raises(spon.SponError, match=rf"prediction of shape \(3,\); allowed: \({n},\), finite"):
            correction(rough[:3], m)
        with pytest.raises(spon.SponError, match=r"m of shape .* finite"):
            correction(rough, np.nan * m)
    negative = Negative(on_square(3, 1, WORLD))
    line = "CG met an operator or preconditioner that is not positive definite; allowed: method 'newton'"
    with spon.Correction(negative, method="cg") as correction, pytest.raises(spon.SponError, match=line):
        correction(rough, m)
