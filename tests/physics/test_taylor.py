"""Taylor remainders of second order, of the dual norm and of batched solves, on every problem file."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from physics_cases import inputs, make

import spon

SELF = MPI.COMM_SELF
NAMES = ("plate", "darcy", "notch", "elasticity", "bracket", "hyperelasticity")


def shifts(problem, m):
    """u_g of each sample, affine in m."""
    found = [problem.shift(row) for row in m.numpy()]
    common = problem.constraint.shift
    return torch.as_tensor(np.array([common if one is None else one for one in found]))


@pytest.mark.parametrize("case", NAMES)
def test_of_the_dual_norm_and_of_the_batched_solver(case):
    """In u with the cycle of the sample at u = 0; in the inputs through the solution."""
    problem = make(case, SELF, 1)
    solver = spon.MultigridSolver(problem.discretisation, problem.physics())
    m = inputs(problem, 2)
    if case == "hyperelasticity":
        m = 0.2 * m
    shift = shifts(problem, m)
    solution, _ = solver.solve(None, m, 1e-12, shift=shift)
    generator = torch.Generator().manual_seed(0)
    step = 0.1 * solution * torch.rand(solution.shape, generator=generator, dtype=torch.float64)
    step = solver.Z(solver.free(step)).T
    norm = spon.DualNorm(solver.kernel, lambda r, m, u: solver.cycle(r, m))
    below(lambda h: norm.squared(solution + (0.5 + h) * step, m).sum(), 1e-4)
    weight = torch.randn(solution.shape, generator=generator, dtype=torch.float64)
    turned = 0.1 * m * torch.randn(m.shape, generator=generator, dtype=torch.float64)
    lifted = shifts(problem, m + turned) - shift

    def quantity(h):
        return (weight * solver.solve(None, m + h * turned, 1e-12, shift=shift + h * lifted)[0]).sum()

    below(quantity, 1e-9)


def below(value, exact):
    """Remainders of a function of h fall fourfold when h is halved, or are zero."""
    h = torch.zeros((), dtype=torch.float64, requires_grad=True)
    first = value(h)
    (slope,) = torch.autograd.grad(first, h)
    assert abs(float(slope)) > 0
    at = [
        abs(float(value(torch.tensor(s, dtype=torch.float64)).detach() - first.detach() - s * slope))
        for s in (0.2, 0.1)
    ]
    size = exact * abs(float(slope))
    assert at[0] < size or at[0] / at[1] == pytest.approx(4, rel=0.25)


def test_helmholtz_has_neither():
    problem = make("helmholtz", SELF)
    with pytest.raises(spon.SponError):
        spon.MultigridSolver(problem.discretisation, problem.physics())
    with pytest.raises(spon.SponError, match="Jacobian of Helmholtz is not definite"):
        spon.Preconditioner(problem, "direct")
