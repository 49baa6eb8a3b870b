"""Reduced quadrature by non-negative least squares: few points, and no weight below zero."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.optimize
import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.local_fields import LocalFields

__all__ = ["Cubature", "find_cubature"]

Floats = npt.NDArray[np.float64]

_PER_MODE = {3: 8, 6: 10}  # points, in plane strain and in space
_COARSE = 7  # points for each mode
_CANDIDATES = 8  # for each point: of all points, the same accuracy at many times the cost
_EXACT = 1e-6  # relative residual above which all points are candidates
_REACHED = 1e-3  # relative residual of the compressed integrals that is still a quadrature


@dataclass(frozen=True)
class Cubature:
    """Points and weights for integrals of the laws' remainders over the cell.

    Args:
        points: (m,) int64, numbers of quadrature points of the cell, rising.
        weights: (m,) positive; they sum to the volume of the phases that are not linear.
        residual: relative error, in the least-squares sense, of the integrals it was made for.
    """

    points: Tensor
    weights: Tensor
    residual: float


def find_cubature(
    fields: LocalFields,
    strains: Tensor,
    amplitudes: Tensor,
    points: int | None = None,
    tangents: bool = True,
    seed: int = 0,
) -> Cubature:
    """Choose points and weights so that forces, stresses and tangents at some states are integrated well.

    The integrals are the generalised forces Gᵀ s, the condensed stresses Sᵀ Gᵀ s and the condensed tangents
    Sᵀ Gᵀ D G S of the remainders, with S = d(E, a)/dE at the state: the first variations of the macroscopic
    stress and tangent. They are compressed to `points` − 1 by a singular value decomposition, to which the
    volume is added; non-negative least squares (Hernández, Caicedo & Ferrer 2017,
    doi:10.1016/j.cma.2016.10.022, there of forces alone) then need as many points at most as there are
    integrals. They choose among 8 times as many points, drawn in proportion to their weights, and among all
    where these do not do. No finite-element solve is needed.

    Args:
        fields: cell and modes.
        strains: (states, n) macroscopic strains.
        amplitudes: (states, r) of equilibrium at full quadrature.
        points: largest number of points; None: 8 for each mode, 10 in space, or all where there are
            fewer.
        tangents: whether they count, or forces and stresses alone.
        seed: of the draw.

    Raises:
        SponError: no point asked for, or a quadrature that misses the integrals by more than 0.1 %.

    Warns:
        UserWarning: fewer than 7 points for each mode are asked for: errors of 10 % and more are then found.
    """
    available = fields.nonlinear_points()
    per_mode = _PER_MODE[fields.strain_size], _COARSE
    enough, coarse = (min(k * max(fields.rank, 2), len(available)) for k in per_mode)
    count = enough if points is None else points
    if not len(available):
        return Cubature(available, fields.weights[:0], 0.0)
    if count < 1:
        raise SponError(f"a reduced quadrature of {count} points; allowed: 1 or more, {enough} advised")
    if count < coarse:
        warnings.warn(
            f"a reduced quadrature of {count} points for {fields.rank} modes is coarse; {enough} advised",
            stacklevel=2,
        )
    if count >= len(available):
        return Cubature(available, fields.weights[available], 0.0)
    weights = fields.weights[available].numpy()
    integrands = _integrands(fields, strains, amplitudes, available, tangents)
    rows = _compressed(integrands, np.sqrt(weights), count - 1)
    target = rows @ np.sqrt(weights)
    used, scaled, residual = _non_negative(rows, target, weights, count, seed)
    if residual > _REACHED:
        raise SponError(
            f"a reduced quadrature of {count} points misses its integrals by {100 * residual:.1g} %; "
            f"allowed: 0.1 %; {enough} points advised"
        )
    reduced = scaled * np.sqrt(weights[used])
    return Cubature(available[torch.as_tensor(used)], torch.as_tensor(reduced), residual)


def _non_negative(
    rows: Floats, target: Floats, weights: Floats, count: int, seed: int
) -> tuple[npt.NDArray[np.int64], Floats, float]:
    """Return columns, their positive coefficients, and the relative residual: of some columns or of all."""
    total, size = len(weights), float(np.linalg.norm(target))
    drawn: npt.NDArray[np.int64] = np.arange(total)
    if _CANDIDATES * count < total:
        share = weights / weights.sum()
        drawn = np.sort(np.random.default_rng(seed).choice(total, _CANDIDATES * count, False, share))
    for columns in (drawn, np.arange(total)):
        chosen = np.ascontiguousarray(rows[:, columns])
        found, residual = scipy.optimize.nnls(chosen, target, maxiter=20 * len(columns))
        if residual <= _EXACT * size or len(columns) == total:
            break
    used = np.flatnonzero(found)
    return columns[used], found[used], float(residual) / size


def _integrands(
    fields: LocalFields, strains: Tensor, amplitudes: Tensor, points: Tensor, tangents: bool
) -> Floats:
    """Return what is to be integrated, (integrals, points), each kind of unit size on the whole."""
    n = fields.strain_size
    y = torch.cat([strains, amplitudes], 1)
    G = fields.operators(points)
    hessian = fields.potential().derivatives(y)[1]
    sensitivity = _sensitivity(hessian, n)
    i, j = torch.triu_indices(n, n)
    phases = fields.phases[points]
    groups = [(law, phases == k) for k, law in enumerate(fields.laws) if (phases == k).any()]
    kinds: list[list[Tensor]] = [[], [], []]
    for state, S in zip(y, sensitivity, strict=True):
        strain = G @ state
        stress, tangent = torch.empty_like(strain), torch.empty(len(points), n, n, dtype=torch.float64)
        for law, here in groups:
            stress[here], tangent[here] = law.remainder_response(strain[here])
        force = (stress[:, None] @ G)[:, 0]
        kinds[0].append(force.T)
        kinds[1].append((force @ S).T)
        if tangents:
            GS = G @ S
            kinds[2].append((GS.transpose(1, 2) @ tangent @ GS)[:, i, j].T)
    w = fields.weights[points]
    whole = [torch.cat(kind) for kind in kinds if kind]
    return torch.cat([kind / (w * kind**2).sum().sqrt() for kind in whole]).numpy()


def _sensitivity(hessian: Tensor, n: int) -> Tensor:
    """Return d(E, a)/dE in equilibrium, (batch, n + r, n)."""
    amplitudes = -torch.linalg.solve(hessian[:, n:, n:], hessian[:, n:, :n])
    one = torch.eye(n, dtype=torch.float64).expand(len(hessian), n, n)
    return torch.cat([one, amplitudes], 1)


def _compressed(integrands: Floats, root: Floats, count: int) -> Floats:
    """Return orthonormal combinations of the integrands and the volume, (count + 1, points), scaled by √w."""
    scaled = integrands * root
    gram, vectors = np.linalg.eigh(scaled @ scaled.T)
    kept = vectors[:, ::-1][:, :count][:, gram[::-1][:count] > 1e-15 * gram[-1]]
    main = np.linalg.qr((kept.T @ scaled).T)[0]
    volume = root / np.linalg.norm(root)
    return np.vstack([main.T, volume])
