"""Modes of displacement fluctuations and of stresses in equilibrium, by proper orthogonal decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.snapshots import Snapshots

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["ENERGY", "Modes", "find_modes"]

Floats = npt.NDArray[np.float64]

ENERGY = 1e-5


@dataclass(frozen=True)
class Modes:
    """Orthonormal modes of a cell, the most important first.

    Args:
        fluctuations: (dofs, r) displacement fluctuations: periodic, since snapshots are.
        strains: (points, n, r) of these fluctuations. ∫ ε_i · C ε_j = δ_ij, with C the laws' tangents at
            zero strain: an error of the amplitudes is one of the energy.
        stresses: (points, n, s). ∫ σ_i · σ_j = δ_ij; in equilibrium without loads, since snapshots are; the
            mean of the stress is a part of them.
        strain_spectrum: (fields,) the energy of each mode in what was decomposed, falling, sum 1.
        stress_spectrum: (fields,) the same of stresses.
        strain_truncation: (r + 1,) relative error of held-back fluctuations that the first 0, …, r modes
            leave, in the norm of the modes; empty if none was held back.
        stress_truncation: (s + 1,) the same of stresses.
        rank: number of strain modes that were asked for; any after these are further ones.
    """

    fluctuations: Floats
    strains: Floats
    stresses: Floats
    strain_spectrum: Floats
    stress_spectrum: Floats
    strain_truncation: Floats
    stress_truncation: Floats
    rank: int


def find_modes(
    rve: RVE,
    snapshots: Snapshots,
    rank: int | None = None,
    energy: float = ENERGY,
    held_back: Snapshots | None = None,
    further: float = 0.0,
    most: int | None = None,
) -> Modes:
    """Decompose snapshots, weighted by the quadrature, and their sensitivities to the macroscopic strain.

    Fluctuations in the energy norm at zero strain, stresses in L2. Against L2 of the strain, few modes give a
    better tangent in this norm, and many the same; and the residual on modes left out is an energy.

    The sensitivities are scaled by the reach of a snapshot: half the range of the strains over the n-th
    root of their number, in each component. Fields and their first-order changes half way to the next load
    case then count alike, and the macroscopic tangent, which is made of the sensitivities, is spanned.

    Args:
        rve: cell.
        snapshots: load cases to decompose; without sensitivities their fields alone.
        rank: number of modes, of fluctuations and of stresses.
        energy: where `rank` is None: the share of the energy of all these fields that may be left out.
        held_back: load cases to measure the truncation on.
        further: share of the modes that are returned in addition, as far as the snapshots span them.
        most: where `rank` is None: largest number of modes before any further ones.

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
    fields = _fluctuations(snapshots)
    vectors = _energy_vectors(rve, root, fields)
    values, V = _decomposed(vectors)
    uniform = float(np.linalg.norm(root @ snapshots.strains.numpy().T))
    chosen, r = _rank("displacement fluctuations", values, uniform, rank, energy, further, most)
    fluctuations = fields @ (V[:r].T / values[:r])
    strains = (rve.strain_operator @ fluctuations).reshape(len(rve.weights), rve.strain_size, r)
    U = vectors @ (V[:r].T / values[:r])
    vectors = _stress_vectors(rve, snapshots)
    levels, V = _decomposed(vectors)
    _, s = _rank("stresses", levels, levels[0], rank, energy, further, most)
    S = np.linalg.qr(vectors @ (V[:s].T / levels[:s]))[0]
    nothing = np.zeros(0)
    return Modes(
        fluctuations,
        strains,
        S.reshape(*root.shape[:2], s) / np.sqrt(rve.weights)[:, None, None],
        _shares(values),
        _shares(levels),
        nothing if held_back is None else _left(U, _energy_vectors(rve, root, _alone(held_back))),
        nothing if held_back is None else _left(S, _stress_vectors(rve, held_back, slopes=False)),
        chosen,
    )


def _tangent_roots(rve: RVE) -> Floats:
    """Return R with RᵀR = C at each point, (points, n, n), C the tangent at zero strain."""
    n = rve.strain_size
    zero = torch.zeros(1, n, dtype=torch.float64)
    roots = [np.linalg.cholesky(material.tangent(zero)[0].numpy()).T for material in rve.materials]
    return np.stack(roots)[rve.phases]


def _reach(strains: Tensor) -> Tensor:
    """Return how far a load case stands for its neighbourhood, (n,)."""
    return (strains.amax(0) - strains.amin(0)) / 2 / len(strains) ** (1 / strains.shape[1])


def _alone(snapshots: Snapshots) -> Floats:
    return snapshots.fluctuations.numpy().T


def _fluctuations(snapshots: Snapshots) -> Floats:
    """Return fluctuations and scaled sensitivities, (dofs, fields)."""
    if snapshots.sensitivities is None:
        return _alone(snapshots)
    slopes = _reach(snapshots.strains) * snapshots.sensitivities
    return np.concatenate([_alone(snapshots), *(case.numpy() for case in slopes)], axis=1)


def _energy_vectors(rve: RVE, root: Floats, fluctuations: Floats) -> Floats:
    """Return what has energies of fluctuations (dofs, k) as Euclidean products, (points · n, k)."""
    local = (rve.strain_operator @ fluctuations).reshape(*root.shape[:2], -1)
    return (root @ local).reshape(-1, fluctuations.shape[1])


def _stress_vectors(rve: RVE, snapshots: Snapshots, slopes: bool = True) -> Floats:
    """Return stresses and their scaled sensitivities times √w, (points · n, fields)."""
    columns = [snapshots.stresses.flatten(1).T.numpy()]
    if slopes and snapshots.sensitivities is not None:
        reach = _reach(snapshots.strains)
        for case in range(len(snapshots)):
            columns.append(_stress_slopes(rve, snapshots[case : case + 1]) * reach.numpy())
    return np.repeat(np.sqrt(rve.weights), rve.strain_size)[:, None] * np.concatenate(columns, axis=1)


def _stress_slopes(rve: RVE, one: Snapshots) -> Floats:
    """Return d stress / d macroscopic strain at the points for one load case, (points · n, n)."""
    n = rve.strain_size
    strains = rve.strains(one.strains, one.fluctuations)[0]
    assert one.sensitivities is not None
    slopes = (rve.strain_operator @ one.sensitivities[0].numpy()).reshape(-1, n, n)
    change = torch.eye(n, dtype=torch.float64) + torch.as_tensor(slopes)
    for phase, law in enumerate(rve.materials):
        here = torch.as_tensor(rve.phases == phase)
        change[here] = law.tangent(strains[here]) @ change[here]
    return change.reshape(-1, n).numpy()


def _decomposed(vectors: Floats) -> tuple[Floats, Floats]:
    """Return singular values (fields,) and right singular vectors (fields, fields), a row for each."""
    _, values, V = np.linalg.svd(np.linalg.qr(vectors, mode="r"), full_matrices=False)
    return values, V


def _shares(values: Floats) -> Floats:
    return values**2 / max((values**2).sum(), np.finfo(float).tiny)


def _rank(
    what: str,
    values: Floats,
    scale: float,
    rank: int | None,
    energy: float,
    further: float,
    most: int | None,
) -> tuple[int, int]:
    """Return how many modes to keep, without and with further ones; those below rounding never."""
    spanned = int((values > 1e-10 * scale).sum())
    if rank is None:
        tail = np.cumsum(_shares(values)[::-1])[::-1]
        rank = min(int((tail > energy).sum()), spanned, spanned if most is None else most)
    if rank > spanned:
        raise SponError(f"{rank} modes of {what}; allowed: {spanned} at most, that many the snapshots span")
    return rank, min(rank + int(np.ceil(further * rank)), spanned)


def _left(basis: Floats, vectors: Floats) -> Floats:
    """Return the relative norm of what the first 0, 1, … basis vectors leave of some vectors."""
    inner = ((basis.T @ vectors) ** 2).sum(1)
    whole = (vectors**2).sum()
    return np.sqrt(np.clip(1 - np.concatenate([[0.0], np.cumsum(inner)]) / whole, 0, None))
