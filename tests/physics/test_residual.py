"""Residuals as torch operations: gradients, rank independence, error lines."""

import numpy as np
import pytest
import torch
import ufl
from conftest import Diffusion, on_square
from mpi4py import MPI
from physics_cases import CASES, make, point

import spon

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF


@pytest.mark.mpi
@pytest.mark.parametrize("case", CASES)
def test_taylor_remainders_are_of_second_order(case):
    """Σ λ r(û, m) against its gradient in û and all inputs, boundary data included; exact where r is affine."""
    problem = make(case, WORLD)
    residual = spon.Residual(problem)
    free, m, rng = point(problem, 2)
    weight = torch.as_tensor(rng.standard_normal((2, problem.constraint.Z.shape[1])))

    def value(x, y):
        return (weight * residual.reduce(residual(residual.expand(x, y), y))).sum()

    x, y = free.clone().requires_grad_(), m.clone().requires_grad_()
    first = value(x, y)
    gradients = torch.autograd.grad(first, (x, y))
    for which, (base, gradient) in enumerate(zip((free, m), gradients, strict=True)):
        direction = torch.as_tensor(rng.standard_normal(base.shape)) * base.abs().mean() * 1e-2
        slope = float((gradient * direction).sum())
        remainders = []
        for step in (1.0, 0.5):
            moved = [free, m]
            moved[which] = base + step * direction
            remainders.append(abs(float(value(*moved)) - float(first) - step * slope))
        scale = abs(float(first)) + abs(slope)
        affine = remainders[0] < 1e-9 * scale
        assert affine or 1.9 < np.log2(remainders[0] / remainders[1]) < 2.1, (which, remainders, scale)
        assert slope != 0.0 or affine
