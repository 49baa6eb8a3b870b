"""Random fields on a mesh, drawn by the mesh's own operators."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from spon.errors import SponError
from spon.level import Level

__all__ = ["MaternField", "generator"]


def generator(seed: int, sample: int) -> np.random.Generator:
    """Return the generator of one sample; it depends on (seed, sample) alone.

    Args:
        seed: of the data set, ≥ 0.
        sample: number of the sample, ≥ 0.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(sample,))))


class MaternField:
    """Zero-mean Gaussian field with Matérn covariance, smoothness ν = 2 − d/2 and unit variance.

    Draws x = A⁻¹ M_L^{1/2} z / σ with A = K + κ²M, κ = √(8ν)/ℓ, z ~ N(0, I), the finite-element
    solution of (κ² − Δ) x = white noise with natural boundary conditions; σ² is the variance in
    free space (Lindgren, Rue & Lindström 2011, J. R. Stat. Soc. B 73, sections 2.1-2.3). Within
    about ℓ of a boundary the variance is larger, up to twice on a straight edge.

    Args:
        level: mesh with its Gram matrices, 2-D or 3-D.
        length: range ℓ > 0 at which the correlation has fallen to about 0.14, in units of the mesh.

    Raises:
        SponError: length is not positive.
    """

    def __init__(self, level: Level, length: float) -> None:
        if not length > 0:
            raise SponError(f"correlation length {length}; allowed: > 0")
        d = level.points.shape[1]
        nu = 2.0 - d / 2
        kappa = math.sqrt(8.0 * nu) / length
        self.length = length
        self._solve = spla.factorized(sp.csc_matrix(level.stiffness + kappa**2 * level.mass))
        variance = math.gamma(nu) / (math.gamma(2.0) * (4 * math.pi) ** (d / 2) * kappa ** (2 * nu))
        self._noise = np.sqrt(level.lumped_mass / variance)

    def __call__(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw one field.

        Args:
            rng: generator of this sample.

        Returns:
            (nodes,) float64 in canonical order.
        """
        out: npt.NDArray[np.float64] = self._solve(self._noise * rng.standard_normal(len(self._noise)))
        return out
