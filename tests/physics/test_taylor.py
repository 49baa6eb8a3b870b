"""Taylor remainders of second order, of dual norms and of batched solves, on every problem file."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from physics_cases import inputs, make, point

import spon

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF
NAMES = ("plate", "darcy", "notch", "elasticity", "bracket", "hyperelasticity")


def shifts(problem, m):
    """u_g of each sample, affine in m."""
    found = [problem.shift(row) for row in m.numpy()]
    common = problem.constraint.shift
    return torch.as_tensor(np.array([common if one is None else one for one in found]))


@pytest.mark.parametrize("case", NAMES)
def test_of_the_dual_norm_and_of_the_batched_solver(case):
    """In u with the cycle at u = 0, in the inputs with that kept, and in these through the solution."""
    problem = make(case, SELF, 1)
    solver = spon.MultigridSolver(problem.discretisation, problem.physics(), torch.float64)
    m = inputs(problem, 1 if case == "bracket" else 2)
    if case == "hyperelasticity":
        m = 0.2 * m
    shift = shifts(problem, m)
    solution, _ = solver.solve(None, m, 1e-12, shift=shift)
    generator = torch.Generator().manual_seed(0)
    step = 0.1 * solution * torch.rand(solution.shape, generator=generator, dtype=torch.float64)
    step = solver.Z(solver.free(step)).T
    norm = spon.DualNorm(solver.kernel, lambda r, m, u: solver.cycle(r, m))
    below(lambda h: norm.squared(solution + (0.5 + h) * step, m).sum(), 1e-9)
    weight = torch.randn(solution.shape, generator=generator, dtype=torch.float64)
    turned = 0.1 * m * torch.randn(m.shape, generator=generator, dtype=torch.float64)
    lifted = shifts(problem, m + turned) - shift
    kept = spon.DualNorm(solver.kernel, lambda r, _, u: solver.cycle(r, m))
    start = solution + 0.5 * step
    below(lambda h: kept.squared(start + h * lifted, m + h * turned).sum(), 1e-9, case == "notch")
    if case != "notch":  # whose equations no input enters
        y = m.clone().requires_grad_()
        gradients = [torch.autograd.grad(one.squared(start, y).sum(), y)[0] for one in (norm, kept)]
        torch.testing.assert_close(*gradients)  # that of B itself is left out

    def quantity(h):
        return (weight * solver.solve(None, m + h * turned, 1e-12, shift=shift + h * lifted)[0]).sum()

    below(quantity, 1e-9)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("operator", "case"),
    [("jacobian", case) for case in NAMES]
    + [("riesz", case) for case in (*NAMES, "helmholtz", "helmholtz incidence")],
)
def test_of_the_assembled_dual_norm(operator, case):
    """In û and in the inputs, boundary data included; the inverse of the Jacobian is kept as it was."""
    problem = make(case, WORLD)
    free, m, rng = point(problem, 1)
    residual = spon.Residual(problem)
    with spon.Preconditioner(problem, "direct", operator) as inverse:
        at = m, residual.expand(0.0 * free, m)  # where any body is stable
        B = inverse if operator == "riesz" else lambda r, m, u: inverse(r, *at)
        norm = spon.DualNorm(residual, B)
        for base in (free, m):
            turned = 0.1 * base * torch.as_tensor(rng.standard_normal(base.shape))

            def quantity(h, turned=turned, moves=base is m):
                y = m + h * turned if moves else m
                x = free if moves else free + h * turned
                return norm.squared(residual.expand(x, y), y).sum()

            below(quantity, 1e-9, case == "notch" and base is m)


def below(value, exact, constant=False):
    """Remainders of a function of h fall fourfold when h is halved, or are zero.

    Those of a constant are zero with its slope: u_g of the notch is harmonic, so that residuals do not see g.
    """
    h = torch.zeros((), dtype=torch.float64, requires_grad=True)
    first = value(h)
    (slope,) = torch.autograd.grad(first, h)
    first, slope = float(first.detach()), float(slope)
    assert (abs(slope) < 1e-12 * abs(first)) == constant
    at = [
        abs(float(value(torch.tensor(s, dtype=torch.float64)).detach()) - first - s * slope)
        for s in (0.2, 0.1)
    ]
    size = 1e-12 * abs(first) if constant else exact * abs(slope)
    assert at[0] < size or (not constant and at[0] / at[1] == pytest.approx(4, rel=0.25))


def test_helmholtz_has_neither():
    problem = make("helmholtz", SELF)
    with pytest.raises(
        spon.SponError, match="no physics: the problem names no kernel; allowed: diffusion, el"
    ):
        spon.MultigridSolver(problem.discretisation, problem.physics())
    with pytest.raises(spon.SponError, match="Jacobian of Helmholtz is not definite"):
        spon.Preconditioner(problem, "direct")
