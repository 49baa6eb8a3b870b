"""Certificates: guarantees hold, and calibrated estimates are right as often as they say."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from physics_cases import inputs, make

import spon

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF


def solved(problem, samples):
    m = inputs(problem, samples)
    return m, torch.as_tensor(np.array([problem.solution(one).values for one in m.numpy()]))


@pytest.mark.mpi
@pytest.mark.parametrize("case", ["darcy", "darcy lognormal", "plate", "notch"])
def test_guarantees_hold_and_without_exact_solves_there_are_none(case):
    problem = make(case, WORLD)
    m, u = solved(problem, 3)
    Z = problem.constraint.Z
    noise = np.random.default_rng(0).standard_normal((3, Z.shape[1]))
    q = u + float(u.std()) * 0.1 * torch.as_tensor((Z @ noise.T).T)
    certificate = spon.certificate(problem, "direct", "riesz")
    found = certificate(q, m)
    assert found.kind == "guaranteed"
    error = certificate.norm.energy(q - u, u, m) / certificate.norm.energy(q, q, m)
    assert bool((error <= found.upper * (1 + 1e-12)).all())
    if case == "notch":  # the operator is the Riesz map
        torch.testing.assert_close(found.relative, error)
    for method, operator in (("amg", "riesz"), ("direct", "jacobian"), ("amg", "jacobian")):
        estimate = spon.certificate(problem, method, operator)(q, m)
        assert (estimate.kind, estimate.upper) == ("estimated", None)


@pytest.mark.mpi
def test_riesz_certificates_of_an_indefinite_problem_are_calibrated_estimates():
    problem = make("helmholtz", WORLD)
    m, u = solved(problem, 10)
    certificate = spon.certificate(problem, "direct", "riesz")
    q = u + 0.05 * (u.roll(1, 0) - u)
    certificate.calibrate(q, m, u)
    found = certificate(q, m)
    assert found.kind == "estimated"
    error = certificate.norm.energy(q - u, u, m) / certificate.norm.energy(q, q, m)
    assert int((error <= found.upper).sum()) >= 9
    assert bool((found.relative <= found.upper).all())


def test_calibration_covers_new_samples_as_often_as_it_says():
    """η = |u|, ‖e‖ = |u| / s with random s: coverage over many calibrations is the level."""
    torch.manual_seed(0)
    norm = spon.DualNorm(lambda u, m: u, lambda r, m, u: r, lambda v: v.norm(dim=1))
    hits = []
    for _ in range(200):
        u = torch.rand(21, 1, dtype=torch.float64) + 0.1
        reference = u - u * (0.5 + torch.rand(21, 1, dtype=torch.float64))
        certificate = spon.Certificate(norm)
        found = certificate.calibrate(u[:20], u[:20], reference[:20], level=0.8)
        assert found.lower <= found.median <= found.upper
        made = certificate(u[20:], u[20:])
        hits.append(float((u - reference)[20]) <= float(made.upper * u[20]))
    assert 0.75 < np.mean(hits) < 0.92


@pytest.mark.mpi
def test_a_model_is_certified_with_its_predictions():
    problem = make("plate", WORLD)
    m, u = solved(problem, 2)
    space = problem.discretisation
    model = spon.OperatorNetwork(space, spon.Multigrid(space), transform="log")
    model.fit_normalisation(m.numpy(), u.numpy())
    certificate = spon.certificate(problem, "direct")
    prediction, found = certificate.certify(model, m)
    error = certificate.norm.energy(prediction - u, u, m) / certificate.norm.energy(prediction, prediction, m)
    torch.testing.assert_close(found.relative, error, rtol=1e-8, atol=0)


def test_error_lines():
    norm = spon.DualNorm(lambda u, m: u, lambda r, m, u: r)
    one = torch.ones(4, 2, dtype=torch.float64)
    certificate = spon.Certificate(norm)
    with pytest.raises(spon.SponError, match=r"calibration on 4 samples; allowed: >= 9 for the level 0.9"):
        certificate.calibrate(one, one, 0 * one)
    with pytest.raises(spon.SponError, match=r"level = 1; allowed: between 0.5 and 1"):
        certificate.calibrate(one, one, 0 * one, level=1)
    with pytest.raises(spon.SponError, match="η = 0 in the calibration"):
        certificate.calibrate(0 * one, one, one, level=0.6)
    broken = spon.Certificate(norm, lambda m: torch.full((len(m),), float("nan")))
    with pytest.raises(spon.SponError, match=r"stability constants \[nan, .*; allowed: > 0"):
        broken(one, one)
    with pytest.raises(spon.SponError, match="v·Jv = -2; allowed: >= 0"):
        spon.DualNorm(lambda u, m: -u, lambda r, m, u: r).energy(one, one, one)
