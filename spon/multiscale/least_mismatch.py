"""Amplitudes of least mismatch between the laws and stresses in equilibrium, strain by strain."""

from __future__ import annotations

import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.local_fields import LocalFields

__all__ = ["least_mismatch"]

_AT_ONCE = 50  # strains: what they need stays in the cache
_STEPS, _HALVINGS = 20, 8
_REACHED = 1e-8  # relative step


@torch.no_grad()
def least_mismatch(
    fields: LocalFields, strain: Tensor, points: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimise ∫ |σ(E + Φᵉ a) − Φˢ b|² over the amplitudes a and b, for each strain E by itself.

    Φˢ being orthonormal, the integral is ‖(1 − Π) σ‖² + |Φˢᵀ σ − b|², with Π the projection on Φˢ: a
    minimises the first term, by Gauss–Newton steps with the projected Jacobian (1 − Π) C Φᵉ (variable
    projection, Golub & Pereyra 1973, doi:10.1137/0710036) from a = 0, each halved until the integral falls,
    and b = Φˢᵀ σ. The matrix of the steps is positive definite: were C Φᵉ a = Φˢ b for some a, then
    ∫ Φᵉ a · C Φᵉ a = 0, since stresses in equilibrium do no work on fluctuations. No finite-element solution
    is needed.

    Args:
        fields: cell and modes.
        strain: (batch, n) macroscopic strains.
        points: (m,) int64, on which a is found.
        weights: (m,) with which they stand for the integral over the cell; b is found on all its points.

    Returns:
        (batch, r) amplitudes of strains and (batch, s) of stresses.

    Raises:
        SponError: fewer values at the points than modes, or no finite answer.
    """
    values, modes = len(points.unique()) * fields.strain_size, fields.rank + fields.stress_modes.shape[2]
    if values < modes:
        raise SponError(f"{values} stresses at {len(points)} points for {modes} modes; allowed: more points")
    some = fields.at(points, weights)
    root = weights.sqrt()[:, None]
    basis = torch.linalg.qr((root[..., None] * some.stress_modes).flatten(0, 1))[0]
    found = [_minimise(some, root, basis, part) for part in strain.split(_AT_ONCE)]
    stresses = [
        fields.stress_amplitudes(fields.stresses(fields.strains(part, a)))
        for part, a in zip(strain.split(_AT_ONCE), found, strict=True)
    ]
    return torch.cat(found), torch.cat(stresses)


def _minimise(fields: LocalFields, root: Tensor, basis: Tensor, strain: Tensor) -> Tensor:
    """Return amplitudes of strains, (batch, r), with the square roots of the weights (m, 1)."""
    a = strain.new_zeros(len(strain), fields.rank)
    if not fields.rank:
        return a
    left, jacobian = _residual(fields, root, basis, strain, a)
    for _ in range(_STEPS):
        normal, gradient = jacobian.mT @ jacobian, jacobian.mT @ left[..., None]
        step, info = torch.linalg.solve_ex(normal, gradient)
        step = step[..., 0]
        if info.any() or not torch.isfinite(step).all():
            raise SponError(
                "no amplitudes of least mismatch were found; allowed: more points, smaller strains"
            )
        before = left.square().sum(1)
        for _ in range(_HALVINGS):
            left, jacobian = _residual(fields, root, basis, strain, a - step)
            worse = left.square().sum(1) > before * (1 + 1e-12)
            if not worse.any():
                break
            step[worse] *= 0.5
        a = a - step
        if (step.norm(dim=1) <= _REACHED * a.norm(dim=1)).all():
            break
    return a


def _residual(
    fields: LocalFields, root: Tensor, basis: Tensor, strain: Tensor, a: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (1 − Π) σ, (batch, m · n), times √w, and its derivative by the amplitudes (batch, m · n, r)."""
    strains = fields.strains(strain, a)
    stress, tangent = torch.empty_like(strains), strains.new_empty(*strains.shape, fields.strain_size)
    for phase, law in enumerate(fields.laws):
        here = fields.phases == phase
        chosen = strains[:, here]
        s, C = law.response(chosen.flatten(0, 1))
        stress[:, here], tangent[:, here] = s.reshape(chosen.shape), C.reshape(*chosen.shape, -1)
    left = (root * stress).flatten(1)
    jacobian = (root[..., None] * (tangent @ fields.strain_modes)).flatten(1, 2)
    return left - left @ basis @ basis.T, jacobian - basis @ (basis.T @ jacobian)
