"""Samples of macroscopic strains."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from spon.errors import SponError
from spon.multiscale.voigt import DIMENSIONS

__all__ = ["latin_hypercube", "on_sphere", "proportional_paths"]

Floats = npt.NDArray[np.float64]


def latin_hypercube(count: int, size: int, limit: float, seed: int = 0) -> Floats:
    """Return strains that fill the box ± limit evenly.

    Args:
        count: number of strains.
        size: components, 3 (plane strain) or 6.
        limit: largest absolute value of a component.
        seed: of the random numbers.

    Returns:
        (count, size).

    Raises:
        SponError: a number that is not positive, or another size.
    """
    _require(count, size, limit)
    unit = qmc.LatinHypercube(size, rng=np.random.default_rng(seed)).random(count)
    return limit * (2 * unit - 1)


def on_sphere(count: int, size: int, radius: float, seed: int = 0) -> Floats:
    """Return strains of one Euclidean norm, in directions drawn uniformly.

    Args:
        count: number of strains.
        size: components, 3 (plane strain) or 6.
        radius: norm of the Voigt vectors.
        seed: of the random numbers.

    Returns:
        (count, size).

    Raises:
        SponError: a number that is not positive, or another size.
    """
    _require(count, size, radius)
    draw = np.random.default_rng(seed).standard_normal((count, size))
    return radius * draw / np.linalg.norm(draw, axis=1, keepdims=True)


def proportional_paths(directions: int, size: int, limit: float, steps: int = 5, seed: int = 0) -> Floats:
    """Return strains along straight paths from zero to the faces of the box ± limit.

    Args:
        directions: number of paths; their directions are drawn uniformly.
        size: components, 3 (plane strain) or 6.
        limit: largest absolute value of a component, reached at the end of each path.
        steps: strains on each path, equally spaced; zero is none of them.
        seed: of the random numbers.

    Returns:
        (directions · steps, size), path by path.

    Raises:
        SponError: a number that is not positive, or another size.
    """
    _require(steps, size, limit)
    ends = on_sphere(directions, size, 1.0, seed)
    ends *= limit / np.abs(ends).max(1, keepdims=True)
    share = np.arange(1, steps + 1) / steps
    return (share[:, None] * ends[:, None, :]).reshape(-1, size)


def _require(count: int, size: int, limit: float) -> None:
    if count < 1 or not 0 < limit < np.inf:
        raise SponError(f"{count} strains within {limit}; allowed: positive numbers")
    if size not in DIMENSIONS:
        raise SponError(f"strains of {size} components; allowed: 3 (plane strain), 6")
