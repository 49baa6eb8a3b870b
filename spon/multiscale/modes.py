"""Modes of displacement fluctuations and of stresses in equilibrium, by proper orthogonal decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from spon.errors import SponError
from spon.multiscale.snapshots import Snapshots

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["Modes", "find_modes"]

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-18  # share of the energy that rounding may have made


@dataclass(frozen=True)
class Modes:
    """Orthonormal modes of a cell, the most important first.

    Args:
        fluctuations: (dofs, r) displacement fluctuations: periodic, since snapshots are.
        strains: (points, n, r) of these fluctuations. ∫ ε_i · C ε_j = δ_ij, with C the laws' tangents at
            zero strain: an error of the amplitudes is one of the energy.
        stresses: (points, n, s). ∫ σ_i · σ_j = δ_ij; in equilibrium without loads, since snapshots are; the
            mean of the stress is a part of them.
        strain_spectrum: (cases,) the energy of each mode in the snapshots, falling, sum 1.
        stress_spectrum: (cases,) the same of stresses.
        strain_truncation: (r + 1,) relative error of held-back fluctuations that the first 0, …, r modes
            leave, in the norm of the modes; empty if none was held back.
        stress_truncation: (s + 1,) the same of stresses.
    """

    fluctuations: Floats
    strains: Floats
    stresses: Floats
    strain_spectrum: Floats
    stress_spectrum: Floats
    strain_truncation: Floats
    stress_truncation: Floats

    @property
    def spanned(self) -> int:
        """Number of modes that the snapshots span, of fluctuations and of stresses."""
        return min(int((s > _ROUNDING).sum()) for s in (self.strain_spectrum, self.stress_spectrum))


def find_modes(
    rve: RVE,
    snapshots: Snapshots,
    rank: int | None = None,
    energy: float = 1e-8,
    held_back: Snapshots | None = None,
) -> Modes:
    """Decompose snapshots, weighted by the quadrature.

    Fluctuations in the energy norm at zero strain, stresses in L2. Against L2 of the strain, few modes give a
    better tangent in this norm, and many the same; and the residual on modes left out is an energy.

    Args:
        rve: cell.
        snapshots: load cases to decompose.
        rank: number of modes, of fluctuations and of stresses.
        energy: where `rank` is None: the share of the snapshots' energy that may be left out.
        held_back: load cases to measure the truncation on.

    Raises:
        SponError: more modes asked for than the snapshots span, a share that is not between 0 and 1, or a
            quadrature with a weight that is not positive.
    """
    if rank is not None and rank < 1:
        raise SponError(f"{rank} modes; allowed: 1 or more")
    if rank is None and not 0 < energy < 1:
        raise SponError(f"energy = {energy}; allowed: between 0 and 1")
    if not rve.weights.min() > 0:
        raise SponError(
            f"a quadrature weight of {rve.weights.min():.3g}; allowed: positive, as of other degrees"
        )
    root = np.sqrt(rve.weights)[:, None, None] * _tangent_roots(rve)
    U, values, V = np.linalg.svd(_energy_vectors(rve, root, snapshots), full_matrices=False)
    uniform = float(np.linalg.norm(root @ snapshots.strains.numpy().T))
    r = _rank("displacement fluctuations", values, uniform, rank, energy)
    fluctuations = snapshots.fluctuations.numpy().T @ (V[:r].T / values[:r])
    strains = (rve.strain_operator @ fluctuations).reshape(len(rve.weights), rve.strain_size, r)
    S, levels, _ = np.linalg.svd(_stress_vectors(rve, snapshots), full_matrices=False)
    s = _rank("stresses", levels, levels[0], rank, energy)
    stresses = S[:, :s].reshape(*root.shape[:2], s) / np.sqrt(rve.weights)[:, None, None]
    nothing = np.zeros(0)
    return Modes(
        fluctuations,
        strains,
        stresses,
        _shares(values),
        _shares(levels),
        nothing if held_back is None else _left(U[:, :r], _energy_vectors(rve, root, held_back)),
        nothing if held_back is None else _left(S[:, :s], _stress_vectors(rve, held_back)),
    )


def _tangent_roots(rve: RVE) -> Floats:
    """Return R with RᵀR = C at each point, (points, n, n), C the tangent at zero strain."""
    n = rve.strain_size
    zero = torch.zeros(1, n, dtype=torch.float64)
    roots = [np.linalg.cholesky(material.tangent(zero)[0].numpy()).T for material in rve.materials]
    return np.stack(roots)[rve.phases]


def _energy_vectors(rve: RVE, root: Floats, snapshots: Snapshots) -> Floats:
    """Return what has the fluctuations' energies as Euclidean products, (points · n, cases)."""
    local = (rve.strain_operator @ snapshots.fluctuations.numpy().T).reshape(*root.shape[:2], -1)
    return (root @ local).reshape(-1, len(snapshots))


def _stress_vectors(rve: RVE, snapshots: Snapshots) -> Floats:
    weighted = np.sqrt(rve.weights)[:, None] * snapshots.stresses.numpy()
    return np.ascontiguousarray(weighted.reshape(len(snapshots), -1).T)


def _shares(values: Floats) -> Floats:
    return values**2 / max((values**2).sum(), np.finfo(float).tiny)


def _rank(what: str, values: Floats, scale: float, rank: int | None, energy: float) -> int:
    """Return how many modes to keep; those below rounding, against a norm `scale`, never."""
    spanned = int((values > 1e-10 * scale).sum())
    if rank is None:
        tail = np.cumsum(_shares(values)[::-1])[::-1]
        return min(int((tail > energy).sum()), spanned)
    if rank > spanned:
        raise SponError(f"{rank} modes of {what}; allowed: {spanned} at most, that many the snapshots span")
    return rank


def _left(basis: Floats, vectors: Floats) -> Floats:
    """Return the relative norm of what the first 0, 1, … basis vectors leave of some vectors."""
    inner = ((basis.T @ vectors) ** 2).sum(1)
    whole = (vectors**2).sum()
    return np.sqrt(np.clip(1 - np.concatenate([[0.0], np.cumsum(inner)]) / whole, 0, None))
