"""Residuals as torch operations: gradients, rank independence, error lines."""

import numpy as np
import pytest
import torch
import ufl
from conftest import Diffusion, on_square
from mpi4py import MPI
from physics_cases import CASES, make, point

import spon
from spon.fem.boundary import dirichlet

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF


def probed(problem, residual, samples=2):
    """A number that depends on all of r(û, m), as a function, and where to evaluate it."""
    free, m, rng = point(problem, samples)
    weight = torch.as_tensor(rng.standard_normal((samples, problem.constraint.Z.shape[1])))

    def value(x, y):
        return (weight * residual.reduce(residual(residual.expand(x, y), y))).sum()

    return value, free, m, rng


@pytest.mark.mpi
@pytest.mark.parametrize("case", [*CASES, "edges"])
def test_taylor_remainders_are_of_second_order(case):
    """In û and in all inputs, boundary data included; zero where the residual is affine."""
    problem = make(case, WORLD)
    value, free, m, rng = probed(problem, spon.Residual(problem))
    x, y = free.clone().requires_grad_(), m.clone().requires_grad_()
    first = value(x, y)
    gradients = torch.autograd.grad(first, (x, y))
    for which, (base, gradient) in enumerate(zip((free, m), gradients, strict=True)):
        direction = torch.as_tensor(rng.standard_normal(base.shape)) * base.abs().mean() * 2e-3
        slope = float((gradient * direction).sum())
        remainders = []
        for step in (1.0, 0.5):
            moved = [free, m]
            moved[which] = base + step * direction
            remainders.append(abs(float(value(*moved).detach() - first.detach()) - step * slope))
        affine = remainders[0] < 1e-9 * (abs(float(first.detach())) + abs(slope))
        assert affine or 1.9 < np.log2(remainders[0] / remainders[1]) < 2.1, (which, remainders)


@pytest.mark.mpi
@pytest.mark.parametrize("case", ["elasticity P2", "hyperelasticity", "helmholtz incidence", "edges"])
def test_residuals_and_gradients_do_not_depend_on_the_number_of_ranks(case):
    found = []
    for comm in (SELF, WORLD):
        problem = make(case, comm)
        residual = spon.Residual(problem)
        value, free, m, _ = probed(problem, residual)
        x, y = free.requires_grad_(), m.requires_grad_()
        gradients = torch.autograd.grad(value(x, y), (x, y))
        found.append([residual(residual.expand(x, y), y).detach(), *gradients])
    for alone, spread in zip(*found, strict=True):
        assert float((alone - spread).abs().max()) <= 1e-10 * float(alone.abs().max())


@pytest.mark.mpi
@pytest.mark.parametrize("case", ["darcy", "notch", "helmholtz incidence"])
def test_solutions_have_no_residual_and_batches_are_their_samples(case):
    problem = make(case, WORLD)
    residual = spon.Residual(problem)
    _, m, _ = point(problem, 2)
    u = torch.as_tensor(np.array([problem.solution(one).values for one in m.numpy()]))
    r = residual(u, m)
    assert float(residual.reduce(r).abs().max()) < 1e-10 * float(r.abs().max() + 1.0)
    for k in range(2):
        torch.testing.assert_close(residual(u[k : k + 1], m[k : k + 1])[0], r[k], rtol=0, atol=0)


def test_the_adjoint_of_boundary_data_where_boundaries_meet(problem, rng):
    """⟨u_g(d) − u_g(0), y⟩ = ⟨d, adjoint y⟩, also at the corner, where the last one counts."""
    walls = ("left", "top", "right")
    mesh = problem.hierarchy.finest
    constraint = dirichlet(mesh, problem.space, dict.fromkeys(walls, 0.0))
    space = spon.discretise(problem.hierarchy, problem.space, constraint, inputs={"m": problem.space})
    data = {name: rng.standard_normal((2, len(space.boundary_dofs[name]))) for name in walls}
    zero = {name: 0.0 * values for name, values in data.items()}
    dual = rng.standard_normal((2, space.dofs))
    adjoint = space.boundary_data_adjoint(dual, walls)
    left = ((space.with_boundary_data(data) - space.with_boundary_data(zero)) * dual).sum()
    right = sum((data[name] * adjoint[name]).sum() for name in walls)
    assert abs(left - right) < 1e-12 * abs(left)


class Quadratic(Diffusion):
    def residual(self, u, m, v):
        return super().residual(u, m, v) + v**2 * ufl.dx


class NoTest(Diffusion):
    def residual(self, u, m, v):
        return u * ufl.dx


class Foreign(Diffusion):
    def make_constraint(self):
        return spon.Constraint.none(3)


@pytest.mark.mpi
def test_error_lines():
    coarse = on_square(2, 0, WORLD)
    for cls, line in (
        (Quadratic, "the residual is not linear in v: .*; allowed: F.u; m, v. linear in v"),
        (NoTest, "the residual has 0 arguments of UFL; allowed: one, the test function v"),
        (Foreign, "a constraint on 3 DoFs; the space has 9"),
    ):
        with pytest.raises(spon.SponError, match=line):
            spon.Residual(cls(coarse))
    residual, one = spon.Residual(Diffusion(coarse)), torch.ones(2, 9, dtype=torch.float64)
    bad = one.clone()
    if WORLD.rank == WORLD.size - 1:  # all ranks raise
        bad[1, 3] = torch.nan
    for u, m, line in (
        (one[:, :8], one, r"u of shape \(2, 8\) in torch.float64; allowed: \(batch, 9\) in torch.float64"),
        (one, one.float(), r"m of shape \(2, 9\) in torch.float32; allowed"),
        (one, one[:1], "2 samples of u and 1 of m; allowed: as many"),
        (one, bad, "m of sample 1 of the batch is not finite"),
        (bad, one, "u of sample 1 of the batch is not finite"),
    ):
        with pytest.raises(spon.SponError, match=line):
            residual(u, m)
    with pytest.raises(spon.SponError, match="residual of sample 0 of the batch is not finite"):
        residual(1e300 * one * torch.arange(9), 1e300 * one)
    with pytest.raises(spon.SponError, match=r"values of shape \(2, 9\) .*; allowed: \(batch, 3\)"):
        residual.expand(one, one)
    with pytest.raises(spon.SponError, match=r"m of shape \(2, 3\) .*; allowed: \(batch, 9\)"):
        residual.expand(one[:, :3], one[:, :3])
