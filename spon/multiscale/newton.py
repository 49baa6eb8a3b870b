"""Minimise reduced potentials over the amplitudes, many macroscopic strains at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spon.multiscale.potential import ReducedPotential

__all__ = ["Condensed", "Minimum", "condense", "minimise"]

_ARMIJO = 1e-4
_HALVINGS = 30


@dataclass(frozen=True)
class Condensed:
    """A quadratic model of the potential after its amplitudes are eliminated.

    Args:
        stress: (batch, n) g_E − H_Ea H_aa⁻¹ g_a: the stress at the minimum of the quadratic model.
        tangent: (batch, n, n) H_EE − H_Ea H_aa⁻¹ H_aE.
        sensitivity: (batch, r, n) −H_aa⁻¹ H_aE, how the amplitudes follow the macroscopic strain.
        step: (batch, r) −H_aa⁻¹ g_a, Newton's step.
        decrement: (batch,) g_a · H_aa⁻¹ g_a, twice the energy that the step gains.
        valid: (batch,) whether H_aa was positive definite.
    """

    stress: Tensor
    tangent: Tensor
    sensitivity: Tensor
    step: Tensor
    decrement: Tensor
    valid: Tensor


def condense(gradient: Tensor, hessian: Tensor, size: int) -> Condensed:
    """Eliminate the amplitudes.

    Args:
        gradient: (batch, N) dψ/d(E, a).
        hessian: (batch, N, N).
        size: n, the components of E.
    """
    factor, info = torch.linalg.cholesky_ex(hessian[:, size:, size:])
    right = torch.cat([gradient[:, size:, None], hessian[:, size:, :size]], 2)
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    whole = -torch.linalg.solve_triangular(factor.transpose(1, 2), half, upper=True)
    force, coupling = half[:, :, :1], half[:, :, 1:]
    both = coupling.transpose(1, 2) @ half
    return Condensed(
        stress=gradient[:, :size] - both[:, :, 0],
        tangent=hessian[:, :size, :size] - both[:, :, 1:],
        sensitivity=whole[:, :, 1:],
        step=whole[:, :, 0],
        decrement=force.square().sum((1, 2)),
        valid=(info == 0) & torch.isfinite(gradient).all(1),
    )


@dataclass(frozen=True)
class Minimum:
    """Amplitudes that minimise the potential, and the macroscopic response there.

    Args:
        amplitudes: (batch, r).
        stress: (batch, n).
        tangent: (batch, n, n).
        sensitivity: (batch, r, n) of the amplitudes to the macroscopic strain.
        iterations: (batch,) Hessians used.
        converged: (batch,) False: the other values mean nothing.
    """

    amplitudes: Tensor
    stress: Tensor
    tangent: Tensor
    sensitivity: Tensor
    iterations: Tensor
    converged: Tensor


def minimise(
    potential: ReducedPotential, strain: Tensor, start: Tensor, tolerance: float = 1e-8, limit: int = 30
) -> Minimum:
    """Minimise ψ(E, ·) by Newton's method with backtracking; samples that have converged drop out.

    A sample has converged where Newton's decrement is `tolerance`² of y · H y: the step that is left is
    then that small in the energy norm, and it is still taken into account, in amplitudes and stress to first
    order. So the error of the stress is of the order of `tolerance`², that of the tangent of `tolerance`.

    Args:
        potential: of y = (E, a).
        strain: (batch, n) E.
        start: (batch, r) amplitudes to start from.
        tolerance: relative.
        limit: largest number of Hessians for a sample.
    """
    batch, size = strain.shape
    y = torch.cat([strain, start], 1)
    stress, tangent = torch.full_like(strain, torch.nan), strain.new_full((batch, size, size), torch.nan)
    sensitivity = strain.new_full((batch, start.shape[1], size), torch.nan)
    iterations = torch.zeros(batch, dtype=torch.long, device=strain.device)
    converged = torch.zeros(batch, dtype=torch.bool, device=strain.device)
    active = torch.arange(batch, device=strain.device)
    for iteration in range(1, limit + 1):
        here = y[active]
        gradient, hessian = potential.derivatives(here)
        found = condense(gradient, hessian, size)
        scale = (here * (hessian @ here[:, :, None]).squeeze(2)).sum(1)
        done = found.valid & (found.decrement <= tolerance**2 * scale)
        iterations[active] = iteration
        last = active[done]
        converged[last] = True
        stress[last], tangent[last] = found.stress[done], found.tangent[done]
        sensitivity[last] = found.sensitivity[done]
        y[last, size:] += found.step[done]
        go = found.valid & ~done
        active = active[go]
        if not len(active):
            break
        y[active] = _descend(potential, here[go], found.step[go], found.decrement[go])
    return Minimum(y[:, size:], stress, tangent, sensitivity, iterations, converged)


def _descend(potential: ReducedPotential, y: Tensor, step: Tensor, decrement: Tensor) -> Tensor:
    """Go along Newton's step, halved where the energy does not fall enough."""
    before = potential.energy(y)
    rounding = 1e-14 * before.abs()
    out = torch.cat([y[:, : y.shape[1] - step.shape[1]], y[:, y.shape[1] - step.shape[1] :] + step], 1)
    left = torch.arange(len(y), device=y.device)
    length = 1.0
    for _ in range(_HALVINGS):
        rise = potential.energy(out[left]) - before[left] + _ARMIJO * length * decrement[left]
        left = left[~(rise <= rounding[left])]
        if not len(left):
            break
        length /= 2
        out[left, -step.shape[1] :] = y[left, -step.shape[1] :] + length * step[left]
    return out
