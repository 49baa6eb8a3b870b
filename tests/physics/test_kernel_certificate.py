"""Certificates and corrections in torch: the tolerance is met, truly; estimates are near the errors."""

import functools

import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square
from mpi4py import MPI
from physics_cases import inputs, make
from test_imports import WITHOUT_FEM, run_without
from test_multigrid_solver import Periodic, reference

import spon
from spon.physics.kernels.cg import conjugate_gradients

SELF = MPI.COMM_SELF
TOLERANCES = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9]


class Case:
    """A problem with solutions by factorisation, and predictions near them."""

    def __init__(self, problem, samples=6):
        problem.solver_options = None
        self.problem, self.d = problem, problem.discretisation
        self.m = inputs(problem, samples)
        self.u = torch.as_tensor(np.array([problem.solution(row).values for row in self.m.numpy()]))
        self.certificate = spon.KernelCertificate(self.d, problem.physics())
        mixed = self.u + 0.1 * (self.u.roll(1, 0) - self.u)  # smooth error
        Z = problem.constraint.Z
        noise = torch.as_tensor((Z @ np.random.default_rng(0).standard_normal((Z.shape[1], samples))).T)
        rough = self.u + 1e-3 * float(self.u.std()) * noise
        self.predictions = {"mixed": mixed, "rough": rough, "lifting": self.shift.expand(samples, -1).clone()}

    @property
    def shift(self):
        return torch.as_tensor(self.d.constraint.shift)

    def error(self, values):
        norm = self.certificate.norm
        return norm.energy(values - self.u, self.u, self.m) / norm.energy(self.u, self.u, self.m)


CASES = {
    "square": lambda: Case(Diffusion(on_square(3, 3))),
    "plate": lambda: Case(make("plate", SELF, 1)),
    "elasticity": lambda: Case(make("elasticity", SELF, 1)),
    "hyperelasticity": lambda: Case(make("hyperelasticity", SELF, 0), 3),
}
LINEAR = ["square", "plate", "elasticity"]


@pytest.fixture(scope="module")
def case():
    return functools.cache(lambda name: CASES[name]())


@pytest.mark.parametrize("kind", ["mixed", "rough", "lifting"])
@pytest.mark.parametrize("name", LINEAR)
def test_every_corrected_prediction_truly_meets_the_tolerance(case, name, kind):
    c = case(name)
    for tolerance in TOLERANCES:
        found = c.certificate.correct(c.predictions[kind], c.m, None, tolerance)
        error = c.error(found.values)
        assert bool(found.corrected.all())
        assert bool((error <= found.bound).all()), (tolerance, error, found.bound)
        assert bool((found.bound <= tolerance * (1 + 1e-12)).all())
        assert bool((found.iterations >= 3).all())
        assert tolerance < 1e-3 or bool((error >= 1e-6 * tolerance).all())  # no more work than asked for


def test_newton_from_predictions_meets_the_tolerance(case):
    c = case("hyperelasticity")
    for kind, tolerance in (("mixed", 1e-2), ("mixed", 1e-8), ("rough", 1e-4), ("rough", 1e-9)):
        found = c.certificate.correct(c.predictions[kind], c.m, None, tolerance, compare=True)
        error = c.error(found.values)
        assert bool((error <= found.bound + 1e-10).all()), (
            tolerance,
            error,
            found.bound,
        )  # PETSc's tolerance
        assert bool((found.bound <= tolerance * (1 + 1e-12)).all())
        near = c.u + 0.01 * (c.predictions[kind] - c.u)
        better = c.certificate.correct(near, c.m, None, tolerance, compare=True)
        assert int(better.iterations.sum()) < int(better.from_zero.sum())


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("kind", ["mixed", "rough"])
def test_one_cycle_estimates_the_energy_error_to_a_tenth(case, name, kind):
    c = case(name)
    u = c.predictions[kind]
    found = c.certificate(u, c.m)
    effectivity = found.eta / c.certificate.norm.energy(u - c.u, c.u, c.m)
    assert 0.9 < float(effectivity.min()) <= float(effectivity.max()) < 1.1
    torch.testing.assert_close(found.relative, found.eta / c.certificate.norm.energy(u, u, c.m))
    assert (found.kind, found.upper) == ("estimated", None)


@pytest.mark.parametrize("name", ["square", "hyperelasticity"])
def test_what_cannot_be_reached_is_refused_with_what_was(case, name):
    c = case(name)
    message = r"tolerance 1e-30 was not reached: .* of sample \d of the batch is at most (\S+) after \d+ iter"
    with pytest.raises(spon.SponError, match=message) as failure:
        c.certificate.correct(c.predictions["mixed"], c.m, None, 1e-30)
    reached = float(str(failure.value).split("at most ")[1].split()[0])
    assert 0 < reached < 1e-9
    for wrong in (0.0, 1.0, -1e-3, float("nan")):
        with pytest.raises(spon.SponError, match="allowed: between 0 and 1"):
            c.certificate.correct(c.predictions["mixed"], c.m, None, wrong)


def test_good_predictions_are_kept_and_batches_do_not_depend_on_each_other(case):
    """Of 130 predictions, more than one batch, those with a calibrated estimate below the tolerance stay."""
    c = case("square")
    certificate = spon.KernelCertificate(c.d, c.problem.physics())
    size = torch.logspace(-6, -1, 130, dtype=torch.float64)[:, None]
    which = torch.arange(130) % len(c.m)
    m, u = c.m[which], c.u[which]
    q = u + size * (c.u.roll(1, 0) - c.u)[which]
    certificate.calibrate(q[::5], m[::5], u[::5])
    whole = certificate(q, m)
    found = certificate.correct(q, m, None, 1e-3, compare=True)
    np.testing.assert_array_equal(found.corrected, whole.upper > 1e-3)
    assert 20 < int(found.corrected.sum()) < 110
    kept = ~found.corrected
    assert torch.equal(found.values[kept], q[kept])
    assert not bool(found.iterations[kept].any())
    assert not bool(found.from_zero[kept].any())
    torch.testing.assert_close(found.bound[kept], whole.upper[kept])
    energy = certificate.norm.energy
    assert bool((energy(found.values - u, u, m) <= 1e-3 * energy(u, u, m)).all())
    torch.testing.assert_close(certificate(q[100:], m[100:]).upper, whole.upper[100:], rtol=1e-6, atol=0)


def test_samples_have_boundary_data_of_their_own(case):
    c = case("square")
    shift = c.shift * torch.linspace(0.5, 2.0, len(c.m), dtype=torch.float64)[:, None]
    u, _ = c.certificate.solver.solve(None, c.m, 1e-13, shift=shift)
    q = shift + 0.9 * (u - shift)
    found = c.certificate.correct(q, c.m, shift, 1e-7)
    energy = c.certificate.norm.energy
    assert bool((energy(found.values - u, u, c.m) <= 1e-7 * energy(u, u, c.m)).all())
    fixed = c.d.constraint.fixed
    torch.testing.assert_close(found.values[:, fixed], shift[:, fixed], rtol=0, atol=1e-14)


def test_a_mean_of_zero_stays():
    problem = Periodic(on_square(4, 2))
    certificate = spon.KernelCertificate(problem.discretisation, problem.physics())
    m = inputs(problem, 3)
    u = torch.as_tensor(np.array([reference(problem, row) for row in m.numpy()]))
    found = certificate.correct(0.9 * u, m, None, 1e-6)
    energy = certificate.norm.energy
    assert bool((energy(found.values - u, u, m) <= 1e-6 * energy(u, u, m)).all())
    assert np.abs(problem.discretisation.zero_mean.mean(found.values.numpy())).max() < 1e-14
    torch.testing.assert_close(certificate(0.9 * u, m).relative, m.new_full((3,), 1 / 9), rtol=0.1, atol=0)


def test_a_tangent_that_is_not_definite_gives_no_estimate_but_is_corrected(case):
    c = case("hyperelasticity")
    q = c.predictions["rough"].clone()
    wild = np.random.default_rng(1).standard_normal(c.problem.constraint.Z.shape[1])
    q[1] += torch.as_tensor(c.problem.constraint.Z @ wild)
    found = c.certificate(q, c.m)
    assert found.eta.isinf().tolist() == [False, True, False]
    torch.testing.assert_close(found.eta[::2], c.certificate(q[::2], c.m[::2]).eta, rtol=1e-4, atol=0)
    corrected = c.certificate.correct(q, c.m, None, 1e-6)
    assert float(c.error(corrected.values).max()) <= 1e-6


def test_a_prediction_that_is_worse_than_none_is_not_started_from(case):
    c = case("hyperelasticity")
    q = torch.stack([c.predictions["mixed"][0], -c.u[1], c.predictions["mixed"][2]])
    found = c.certificate.correct(q, c.m, None, 1e-6, compare=True)
    assert (found.iterations == found.from_zero).tolist() == [False, True, False]
    assert float(c.error(found.values).max()) <= 1e-6


def test_the_least_ritz_value_is_the_least_eigenvalue(case):
    c = case("square")
    solver = c.certificate.solver
    m = c.m[:3]
    cycle, J = solver.prepare(m), solver.action(None, m)
    n = solver.Z.shape[1]
    r = torch.as_tensor(np.random.default_rng(2).standard_normal((n, 3)))
    rtol = torch.tensor([1e-3, 1e-13, 1e-8], dtype=torch.float64)
    _, how = conjugate_gradients(J, cycle, r, rtol)
    assert len(set(how.iterations.tolist())) == 3
    for k, ritz in enumerate(how.least_ritz_value().tolist()):
        one = torch.tensor([k])
        B = torch.cat([cycle.select(one)(column[:, None]) for column in torch.eye(n).double()], dim=1)
        A = torch.cat([J(one)(column[:, None]) for column in torch.eye(n).double()], dim=1)
        L = torch.linalg.cholesky(A)
        least = float(torch.linalg.eigvalsh(L.T @ (B + B.T) / 2 @ L)[0])
        assert least * (1 - 1e-4) <= ritz <= 4 * least  # the margin of the corrections
        if k == 1:
            assert ritz == pytest.approx(least, rel=0.02)
    _, none = conjugate_gradients(J, cycle, torch.zeros_like(r), 1e-3, miniter=3)
    assert none.iterations.tolist() == [0, 0, 0]
    assert bool(none.least_ritz_value().isinf().all())


def test_no_dolfinx_is_needed(dataset, tmp_path):
    dataset.save(tmp_path / "data.h5")
    code = (
        f"import spon, torch; data = spon.Dataset.load({str(tmp_path / 'data.h5')!r})\n"
        "c = spon.KernelCertificate(data.discretisation, data.physics)\n"
        "m, u = torch.as_tensor(data.inputs), torch.as_tensor(data.outputs)\n"
        "q, found = c.certify(lambda m, shift: 1.01 * u, m)\n"
        "v = c.correct(0.9 * u, m, None, 1e-6).values\n"
        "print(float((c.norm.energy(v - u, u, m) / c.norm.energy(u, u, m)).max()) < 1e-6, len(found.eta))"
    )
    result = run_without(WITHOUT_FEM, code)
    assert result.stdout.split() == ["True", str(len(dataset))], result.stderr


def test_a_calibration_is_saved_and_belongs_to_a_discretisation(tmp_path):
    made = spon.Effectivity(0.9, 1.0, 1.1, 0.9, 20)
    made.save(tmp_path / "c.json", "abc")
    assert spon.Effectivity.load(tmp_path / "c.json", "abc") == made
    with pytest.raises(spon.SponError, match="of the discretisation abc; allowed: other"):
        spon.Effectivity.load(tmp_path / "c.json", "other")
    for damaged in ("{", "[]", '{"fingerprint": "abc"}', '{"fingerprint": "abc", "size": 1}'):
        (tmp_path / "c.json").write_text(damaged)
        with pytest.raises(spon.SponError, match="not a readable calibration"):
            spon.Effectivity.load(tmp_path / "c.json", "abc")
