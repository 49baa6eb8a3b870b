"""Arrays of real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import SponError

__all__ = ["numeric"]


def numeric(label: str, array: Any) -> npt.NDArray[Any]:
    """Return an array of finite real numbers, floats in their own precision.

    Args:
        label: what it is, for messages.
        array: (samples, …).

    Raises:
        SponError: complex numbers, objects, text, no samples, or values that are not finite.
    """
    found = np.asarray(array)
    if found.dtype.kind not in "fiub":
        raise SponError(f"{label} has values of type {found.dtype}; allowed: real numbers")
    if found.ndim == 0 or found.size == 0:
        raise SponError(f"{label} of shape {found.shape}; allowed: one sample or more")
    bad = ~np.isfinite(found)
    if bad.any():
        first = int(np.argwhere(bad)[0][0])
        raise SponError(
            f"{label}: {np.count_nonzero(bad)} values are not finite, the first in sample {first}"
        )
    return found if found.dtype.kind == "f" else found.astype(np.float64)
