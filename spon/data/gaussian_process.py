"""Gaussian processes on a modest number of points, such as those of a boundary."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.spatial.distance import cdist

from spon.data.fields import normals
from spon.errors import SponError

__all__ = ["GaussianProcess"]

Floats = npt.NDArray[np.float64]
LARGEST = 5000
TRUNCATION = 1e-12

# of r = distance / length; Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, section 4.2
KERNELS: dict[str, Callable[[Floats], Floats]] = {
    "squared exponential": lambda r: np.exp(-0.5 * r**2),
    "exponential": lambda r: np.exp(-r),
    "matern 3/2": lambda r: (1 + math.sqrt(3) * r) * np.exp(-math.sqrt(3) * r),
    "matern 5/2": lambda r: (1 + math.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-math.sqrt(5) * r),
}


class GaussianProcess:
    """Zero-mean Gaussian process with a stationary covariance of the distance.

    Draws C^{1/2} z with the symmetric root of the covariance matrix, eigenvalues below 1e-12 of the
    largest set to zero, so that nothing has to be added to the diagonal of the nearly singular matrices
    of smooth kernels. The symmetric root does not depend on signs or on the choice among equal
    eigenvalues, so another LAPACK draws the same up to about 1e-6; permuting points and z permutes the draw.

    Args:
        points: (points, d) float64, at most 5000; for more use `MaternField` or `BoxField`.
        length: ℓ > 0, in units of the points.
        kernel: "squared exponential", exp(−r²/2ℓ²); "exponential", "matern 3/2" or "matern 5/2".
        variance: > 0.

    Raises:
        SponError: an argument that is not allowed.
    """

    def __init__(
        self, points: Floats, length: float, kernel: str = "squared exponential", variance: float = 1.0
    ) -> None:
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or not 0 < len(points) <= LARGEST or not np.isfinite(points).all():
            raise SponError(f"points of shape {points.shape}; allowed: (1 to {LARGEST}, d), finite")
        if not (length > 0 and variance > 0):
            raise SponError(f"length {length}, variance {variance}; allowed: > 0")
        if kernel not in KERNELS:
            raise SponError(f"kernel '{kernel}'; allowed: {', '.join(map(repr, KERNELS))}")
        covariance = variance * KERNELS[kernel](cdist(points, points) / length)
        values, vectors = scipy.linalg.eigh(covariance)
        kept = values > TRUNCATION * values[-1]
        self._root = (vectors[:, kept] * np.sqrt(values[kept])) @ vectors[:, kept].T

    def __call__(self, rng: np.random.Generator) -> Floats:
        """Draw once.

        Args:
            rng: generator of this sample.

        Returns:
            (points,) float64.
        """
        return self.batch([rng])[0]

    def batch(self, rngs: Iterable[np.random.Generator]) -> Floats:
        """Draw many times.

        Args:
            rngs: one generator for each sample, which alone determines it, up to round-off.

        Returns:
            (samples, points) float64.
        """
        out: Floats = normals(rngs, (len(self._root),)) @ self._root
        return out
