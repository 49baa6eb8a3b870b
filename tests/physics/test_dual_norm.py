"""The residual in the dual norm against energy errors of direct solves."""

import numpy as np
import pytest
import torch
from conftest import Diffusion, on_square
from mpi4py import MPI
from physics_cases import inputs, make

import spon

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF


def predicted(problem, samples=3):
    """Inputs, solutions, and wrong fields with the right boundary values: smooth and rough errors."""
    m = inputs(problem, samples)
    u = torch.as_tensor(np.array([problem.solution(one).values for one in m.numpy()]))
    constraint = problem.constraint
    rng = np.random.default_rng(0)
    free = constraint.free(u.numpy())
    smooth = 0.9 * np.roll(free, 1, axis=0) - free
    rough = 0.02 * u.numpy().std() * rng.standard_normal(free.shape)
    wrong = [u + torch.as_tensor((constraint.Z @ d.T).T) for d in (0.1 * smooth, rough)]
    return m, u, wrong


def ratios(problem, method, samples=3):
    """η / ‖e‖ of both kinds of error, (2, samples)."""
    m, u, wrong = predicted(problem, samples)
    with spon.Preconditioner(problem, method) as inverse:
        norm = spon.DualNorm(spon.Residual(problem), inverse)
        return np.array([(norm(q, m) / norm.energy(q - u, u, m)).numpy() for q in wrong])


@pytest.mark.mpi
@pytest.mark.parametrize("case", ["darcy", "plate", "elasticity"])
def test_with_the_exact_inverse_it_is_the_energy_error(case):
    np.testing.assert_allclose(ratios(make(case, WORLD), "direct"), 1.0, atol=1e-10)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("darcy", {"contrast": (1.0, 1.0)}),
        ("darcy", {"contrast": (1000.0, 1.0)}),
        ("darcy lognormal", {"sigma": 1.2}),
        ("plate", {}),
        ("elasticity", {}),
        ("elasticity P2", {}),
    ],
)
def test_with_one_cycle_it_is_nearly_and_never_more(case, options):
    found = ratios(make(case, WORLD, 1, **options), "multigrid")
    assert found.min() > 0.9
    assert found.max() <= 1.0 + 1e-12


@pytest.mark.mpi
def test_of_a_nonlinear_problem_it_is_the_error_within_a_factor_of_two():
    found = ratios(make("hyperelasticity", WORLD, 1), "multigrid")
    assert found.min() > 0.5
    assert found.max() < 2.0


@pytest.mark.mpi
@pytest.mark.parametrize(("case", "least"), [("darcy", 0.9), ("elasticity", 0.6)])
def test_algebraic_multigrid(case, least):
    found = ratios(make(case, WORLD), "amg")
    assert found.min() > least
    assert found.max() < 1.1


@pytest.mark.mpi
@pytest.mark.parametrize("method", ["direct", "amg", "multigrid"])
@pytest.mark.parametrize("operator", ["jacobian", "riesz"])
def test_preconditioners_are_symmetric_and_positive(method, operator):
    problem = Diffusion(on_square(3, 2, WORLD))
    m, u, _ = predicted(problem, 2)
    rng = np.random.default_rng(1)
    r, s = torch.as_tensor(rng.standard_normal((2, 2, problem.discretisation.dofs)))
    with spon.Preconditioner(problem, method, operator) as B:
        one, other = ((s * B(r, m, u)).sum(dim=1), (r * B(s, m, u)).sum(dim=1))
        positive = (r * B(r, m, u)).sum(dim=1)
    assert float((one - other).abs().max()) < 1e-12 * float(positive.max())
    assert float(positive.min()) > 0.0


@pytest.mark.mpi
@pytest.mark.parametrize("method", ["direct", "multigrid"])
@pytest.mark.parametrize("case", ["elasticity P2", "bracket"])
def test_it_does_not_depend_on_the_number_of_ranks(case, method):
    found = []
    for comm in (SELF, WORLD):
        problem = make(case, comm, 1 if case == "bracket" else 0)
        m = inputs(problem, 1)
        x = problem.discretisation.levels[0].points
        field = np.sin(3 * x / np.ptp(x, axis=0).max() + 1.0).ravel()
        q = problem.constraint.expand(problem.constraint.free(field[None]))
        with spon.Preconditioner(problem, method) as inverse:
            norm = spon.DualNorm(spon.Residual(problem), inverse)
            found.append(float(norm(torch.as_tensor(q), m)[0]))
    assert abs(found[1] / found[0] - 1.0) < 1e-10


@pytest.mark.mpi
@pytest.mark.parametrize(("method", "operator"), [("multigrid", "jacobian"), ("direct", "riesz")])
def test_the_gradient_of_the_square_is_that_of_a_quadratic_function(method, operator):
    """Central differences are exact, in u; with the Riesz map, which no input changes, in m too."""
    problem = Diffusion(on_square(3, 1, WORLD))
    m, _, (q, _) = predicted(problem, 2)
    rng = np.random.default_rng(2)
    with spon.Preconditioner(problem, method, operator) as inverse:
        norm = spon.DualNorm(spon.Residual(problem), inverse)
        x, y = q.clone().requires_grad_(), m.clone().requires_grad_()
        first = norm.squared(x, y).sum()
        gradients = torch.autograd.grad(first, (x, y))
        for which in range(1 if operator == "jacobian" else 2):
            base = (q, m)[which]
            direction = 0.1 * base * torch.as_tensor(rng.standard_normal(base.shape))
            values = []
            for sign in (1.0, -1.0):
                moved = [q, m]
                moved[which] = base + sign * direction
                values.append(float(norm.squared(*moved).sum()))
            slope = float((gradients[which] * direction).sum())
            assert abs((values[0] - values[1]) / 2 - slope) < 1e-10 * sum(values)
            assert abs(slope) > 1e-4 * sum(values)
        root = norm(x, y).sum()
        halved = torch.autograd.grad(root, x)[0] * 2 * norm(q, m).detach()[:, None]
        torch.testing.assert_close(halved, gradients[0])


def test_it_is_zero_with_zero_gradient_at_no_residual():
    norm = spon.DualNorm(lambda u, m: 2.0 * u, lambda r, m, u: r)
    u = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    eta = norm(u, u)
    assert eta.tolist() == [0.0, 0.0]
    assert torch.autograd.grad(eta.sum(), u)[0].abs().max() == 0.0


class Tied(Diffusion):
    def make_constraint(self):
        return spon.periodic(self.hierarchy.finest, self.space, {"bottom": "top"})


@pytest.mark.mpi
def test_error_lines():
    problem = Diffusion(on_square(2, 0, WORLD))
    for arguments, line in (
        (("cycle",), "method 'cycle'; allowed: 'direct', 'amg', 'multigrid'"),
        (("amg", "mass"), "operator 'mass'; allowed: 'jacobian', 'riesz'"),
        (("multigrid",), "multigrid needs two levels at least; allowed on one level: 'direct', 'amg'"),
    ):
        with pytest.raises(spon.SponError, match=line):
            spon.Preconditioner(problem, *arguments)
    with pytest.raises(
        spon.SponError, match=r"Jacobian of Helmholtz is not definite .* allowed: operator 'ri"
    ):
        spon.Preconditioner(make("helmholtz", WORLD), "direct")
    one = torch.ones(1, 9, dtype=torch.float64)
    with spon.Preconditioner(problem, "direct") as inverse:
        with pytest.raises(spon.SponError, match=r"u of shape \(1, 8\); allowed: \(1, 9\)"):
            inverse(one, one, one[:, :8])
        with pytest.raises(spon.SponError, match="operator is singular"):
            inverse(one, 0.0 * one, one)
        norm = spon.DualNorm(spon.Residual(problem), inverse)
        u = torch.arange(9.0, dtype=torch.float64)[None]
        with pytest.raises(spon.SponError, match=r"r·Br = -.* for sample 0 of the batch; allowed: >= 0"):
            norm(u, -one)
    tied = Tied(on_square(3, 1, WORLD))
    with pytest.raises(
        spon.SponError, match="constraint that prescribes single DoFs; allowed here: 'direct', 'am"
    ):
        spon.Preconditioner(tied)
