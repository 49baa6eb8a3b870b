"""Orders of samples in which neighbours are alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spon.errors import SponError

__all__ = ["nearest_neighbour_order"]

Floats = npt.NDArray[np.float64]


def nearest_neighbour_order(parameters: Floats) -> npt.NDArray[np.int64]:
    """Return an order in which each sample is followed by the nearest one that is left.

    Neighbouring systems have similar solutions and preconditioners, which serves recycled Krylov subspaces
    and lagged preconditioners (H. Wang et al., "Accelerating data generation for neural operators via
    Krylov subspace recycling", ICLR 2024, algorithm 1). The walk starts at sample 0; of equally near samples
    the first is taken. n passes over the parameters: O(n² k) operations, O(n k) memory.

    Args:
        parameters: (samples, k) of each system, scaled so that distances mean something.

    Returns:
        (samples,) int64, a permutation.

    Raises:
        SponError: not two-dimensional, or not finite.
    """
    values = np.asarray(parameters, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise SponError(f"parameters of shape {values.shape}; allowed: (samples, k), finite")
    left = np.arange(len(values))
    out = np.empty(len(values), dtype=np.int64)
    position = 0
    for step in range(len(values)):
        out[step] = left[position]
        here = values[left[position]]
        left = np.delete(left, position)
        if len(left):
            position = int(((values[left] - here) ** 2).sum(axis=1).argmin())
    return out
