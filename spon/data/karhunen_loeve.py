"""Random fields on boxes by their Karhunen-Loève expansion, at any points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.data.fields import normals
from spon.errors import SponError

__all__ = ["BoxField", "threshold"]

Floats = npt.NDArray[np.float64]
_BLOCK = 2**24  # numbers held while modes are summed


class BoxField:
    """Gaussian field on a box with covariance τ^{2(α−1)} (−Δ + τ²)^{−α}.

    Sums the products of cosines (Neumann) or of sines and cosines (periodic) that are the eigenfunctions,
    orthonormal in L2 of the box, times independent normal numbers of variance τ^{2(α−1)} (λ + τ²)^{−α}.
    The sum is evaluated at the points themselves, without a grid or interpolation: a sample is the same
    function on every mesh. It depends on the number of modes, though, and is smooth below the
    wavelength of the last one. With α = 2, τ = 3, Neumann on the unit square its sign is the two-phase
    medium of the Darcy data sets of Li et al. 2021, Fourier Neural Operator, appendix A.3.

    Args:
        points: (points, d) float64, such as the nodes of a mesh, d = 1, 2 or 3.
        tau: inverse length τ > 0, in the inverse of the unit of the points.
        alpha: smoothness α > d/2.
        boundary: "Neumann" or "periodic".
        modes: wave numbers in each direction, 0 ... modes − 1.
        box: lower and upper corner; default: those of the points.
        zero_mean: whether the constant mode is left out, so that the integral over the box vanishes.

    Raises:
        SponError: an argument that is not allowed; points outside the box.
    """

    def __init__(
        self,
        points: Floats,
        tau: float = 3.0,
        alpha: float = 2.0,
        boundary: str = "Neumann",
        modes: int = 64,
        box: tuple[Sequence[float], Sequence[float]] | None = None,
        zero_mean: bool = True,
    ) -> None:
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or not 1 <= points.shape[1] <= 3 or not points.size:
            raise SponError(f"points of shape {points.shape}; allowed: (points, 1), (points, 2), (points, 3)")
        d = points.shape[1]
        if not (tau > 0 and alpha > d / 2 and modes >= 2):
            raise SponError(
                f"tau = {tau}, alpha = {alpha}, modes = {modes}; "
                f"allowed: tau > 0, alpha > {d / 2:g}, modes >= 2"
            )
        if boundary not in ("Neumann", "periodic"):
            raise SponError(f"boundary '{boundary}'; allowed: 'Neumann', 'periodic'")
        lower, upper = (
            (points.min(axis=0), points.max(axis=0)) if box is None else np.asarray(box, dtype=float)
        )
        sides = upper - lower
        slack = 1e-10 * sides
        if np.shape(sides) != (d,) or not (sides > 0).all():
            raise SponError(
                f"a box from {list(lower)} to {list(upper)}; allowed: {d} sides of positive length"
            )
        if not ((points >= lower - slack) & (points <= upper + slack)).all():
            raise SponError(f"points outside the box from {lower.tolist()} to {upper.tolist()}")
        axis = _cosines if boundary == "Neumann" else _fourier
        made = [axis(x, side, modes) for x, side in zip((points - lower).T, sides, strict=True)]
        self._tables = [table for table, _ in made]
        eigenvalues = reduce(np.add.outer, [waves**2 for _, waves in made])
        self._deviation = tau ** (alpha - 1) * (eigenvalues + tau**2) ** (-alpha / 2)
        if zero_mean:
            self._deviation[(0,) * d] = 0.0

    def __call__(self, rng: np.random.Generator) -> Floats:
        """Draw one field.

        Args:
            rng: generator of this sample.

        Returns:
            (points,) float64.
        """
        return self.batch([rng])[0]

    def batch(self, rngs: Iterable[np.random.Generator]) -> Floats:
        """Draw many fields.

        Args:
            rngs: one generator for each sample, which alone determines it.

        Returns:
            (samples, points) float64.
        """
        drawn = normals(rngs, self._deviation.shape)
        fields = [_summed(self._tables, self._deviation * one) for one in drawn]
        return np.array(fields).reshape(len(drawn), len(self._tables[0]))

    @property
    def variance(self) -> Floats:
        """(points,) variance of the field; on a Neumann side it is about twice that inside."""
        return _summed([table**2 for table in self._tables], self._deviation**2)


def threshold(values: Floats, high: float = 12.0, low: float = 3.0) -> Floats:
    """Return a two-phase field: `high` where a Gaussian one is ≥ 0, `low` elsewhere.

    Args:
        values: of the Gaussian field, of any shape.
        high: value of one phase.
        low: value of the other.
    """
    return np.where(np.asarray(values) >= 0.0, float(high), float(low))


def _cosines(x: Floats, side: float, modes: int) -> tuple[Floats, Floats]:
    """Return cos(kπx/L), orthonormal on (0, L), (points, modes), and the wave numbers."""
    waves: Any = np.pi / side * np.arange(modes)
    table = math.sqrt(2.0 / side) * np.cos(np.multiply.outer(x, waves))
    table[:, 0] = math.sqrt(1.0 / side)
    return table, waves


def _fourier(x: Floats, side: float, modes: int) -> tuple[Floats, Floats]:
    """Return 1, cos(2πkx/L), sin(2πkx/L), orthonormal on (0, L), and the wave numbers."""
    waves: Any = 2 * np.pi / side * np.arange(1, modes)
    angle = np.multiply.outer(x, waves)
    constant = np.full((len(x), 1), math.sqrt(1.0 / side))
    table = np.hstack([constant, *(math.sqrt(2.0 / side) * f(angle) for f in (np.cos, np.sin))])
    return table, np.concatenate([[0.0], waves, waves])


def _summed(tables: list[Floats], coefficients: Floats) -> Floats:
    """Return Σ c_{jk…} t₁(p, j) t₂(p, k) … at all points p, one direction after the other."""
    first, *others = tables
    step = max(1, _BLOCK // (coefficients.size // len(coefficients)))
    out = np.empty(len(first))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        left = np.tensordot(first[part], coefficients, 1)
        for table in others:
            left = np.einsum("pk,pk...->p...", table[part], left)
        out[part] = left
    return out
