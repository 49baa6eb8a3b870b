"""Apply a trained operator to live functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from dolfinx import fem

from spon.fem.canonical import CanonicalOrder

__all__ = ["predict"]


def predict(model: Any, order: CanonicalOrder, function: Any) -> Any:
    """Map a DOLFINx function to a DOLFINx function. Collective over its communicator.

    Args:
        model: `OperatorNetwork`, the same on every rank.
        order: canonical order of the space of input and output.
        function: input, a `dolfinx.fem.Function` in that space.

    Returns:
        The output in the same space, ghosts up to date.
    """
    values: npt.NDArray[np.float64] = model.predict(order.gather(function.x.array)[None])[0]
    out = fem.Function(order.space)
    order.scatter(values, out)
    return out
