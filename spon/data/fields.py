"""Random fields on a mesh, drawn by the mesh's own operators."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from spon.errors import SponError
from spon.level import Level

__all__ = ["MaternField", "generator", "normals"]

Floats = npt.NDArray[np.float64]


def generator(seed: int, sample: int) -> np.random.Generator:
    """Return the generator of one sample; it depends on (seed, sample) alone.

    Args:
        seed: of the data set, ≥ 0.
        sample: number of the sample, ≥ 0.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(sample,))))


def normals(rngs: Iterable[np.random.Generator], shape: tuple[int, ...]) -> Floats:
    """Return standard normal numbers, (samples, *shape), each sample from its own generator."""
    drawn = [rng.standard_normal(shape) for rng in rngs]
    return np.array(drawn).reshape(len(drawn), *shape)


class MaternField:
    """Zero-mean Gaussian field with Matérn covariance of smoothness ν = α − d/2.

    The finite-element solution of (κ² − Δ)^{α/2} x = white noise with natural boundary conditions,
    κ = √(8ν)/ℓ, scaled by the variance in free space (Lindgren, Rue & Lindström 2011, J. R. Stat. Soc. B
    73, sections 2.1-2.3): with A = K + κ²M and a noise of covariance N,

        x = (A⁻¹ M)^k A⁻¹ noise,    α = 2k + 2: N = M lumped,    α = 2k + 1: N = A.

    Within about ℓ of a boundary the variance is larger: twice on a straight edge, four times at a right
    corner; `covariance` says how large. Let the mesh reach further than the part that matters where
    that disturbs. The error of the variance falls with (κh)²; the tests find 3 to 6 % at κh ≈ 0.2.

    Args:
        level: mesh with its Gram matrices, of any cells and degree, 2-D or 3-D; also an algebraic one.
        length: range ℓ > 0 at which the correlation has fallen to about 0.14, in units of the mesh.
        alpha: whole number > d/2; a larger one makes smoother fields, with (α − 1) // 2 more solves.
        variance: > 0, in free space.

    Raises:
        SponError: an argument that is not allowed.
    """

    def __init__(self, level: Level, length: float, alpha: int = 2, variance: float = 1.0) -> None:
        d = level.gdim
        if not (length > 0 and variance > 0):
            raise SponError(f"correlation length {length}, variance {variance}; allowed: > 0")
        if alpha != int(alpha) or alpha <= d / 2:
            raise SponError(f"alpha = {alpha}; allowed in {d} dimensions: whole numbers > {d / 2:g}")
        nu = alpha - d / 2
        kappa = math.sqrt(8.0 * nu) / length
        self.length, self.alpha = length, int(alpha)
        self._mass = level.mass
        A = sp.csc_matrix(level.stiffness + kappa**2 * level.mass)
        symmetric = {"diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
        self._factors = spla.splu(A, permc_spec="MMD_AT_PLUS_A", **symmetric)  # A is positive definite
        free = math.gamma(nu) / (math.gamma(alpha) * (4 * math.pi) ** (d / 2) * kappa ** (2 * nu))
        scale = math.sqrt(variance / free)
        if alpha % 2 == 0:
            self._noise = sp.diags_array(scale * np.sqrt(level.lumped_mass)).tocsr()
            return
        slopes = level.gradient.T @ sp.diags_array(np.tile(np.sqrt(level.weights), d))
        values = sp.diags_array(kappa * np.sqrt(level.lumped_mass))
        self._noise = sp.csr_array(scale * sp.hstack([slopes, values]))

    def __call__(self, rng: np.random.Generator) -> Floats:
        """Draw one field.

        Args:
            rng: generator of this sample.

        Returns:
            (nodes,) float64 in canonical order.
        """
        return self.batch([rng])[0]

    def batch(self, rngs: Iterable[np.random.Generator]) -> Floats:
        """Draw many fields with one factorisation.

        Args:
            rngs: one generator for each sample, which alone determines it, up to round-off.

        Returns:
            (samples, nodes) float64 in canonical order.
        """
        white = normals(rngs, (self._noise.shape[1],))
        return np.ascontiguousarray(self._smooth(self._noise @ white.T).T)

    def covariance(self, node: int) -> Floats:
        """Return the covariance of one node with all nodes, (nodes,), boundary effects included."""
        unit = np.zeros(self._mass.shape[0])
        unit[node] = 1.0
        for _ in range((self.alpha - 1) // 2):
            unit = self._mass @ self._factors.solve(unit)
        load = self._noise @ (self._noise.T @ self._factors.solve(unit))
        return self._smooth(load)

    def _smooth(self, load: Floats) -> Floats:
        """Return (A⁻¹ M)^k A⁻¹ of one load (nodes,) or of several (nodes, samples)."""
        out: Floats = self._factors.solve(load)
        for _ in range((self.alpha - 1) // 2):
            out = self._factors.solve(self._mass @ out)
        return out
