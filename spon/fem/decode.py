"""From canonical vectors to live functions and to values at points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from dolfinx import fem

from spon.errors import SponError
from spon.fem.canonical import CanonicalOrder
from spon.fem.location import locator
from spon.fem.spaces import CanonicalSpace
from spon.fem.transfer import evaluation

__all__ = ["decode", "dofs_of", "point_values", "predict"]

Floats = npt.NDArray[np.float64]


def decode(order: CanonicalOrder, values: Floats, name: str = "f") -> Any:
    """Return a live function with given DoFs.

    Args:
        order: canonical order of its space.
        values: (DoFs,) in canonical order, the same on every rank.
        name: of the function.

    Returns:
        `dolfinx.fem.Function` on the distributed mesh, ghosts up to date.

    Raises:
        SponError: values of another shape.
    """
    function = fem.Function(order.space, name=name)
    order.scatter(np.asarray(values, dtype=np.float64), function)
    return function


def dofs_of(order: CanonicalOrder, function: Any) -> Floats:
    """Return the DoFs of a live function on all ranks, the inverse of `decode`. Collective.

    Args:
        order: canonical order of its space.
        function: `dolfinx.fem.Function`.

    Returns:
        (DoFs,) float64 in canonical order.

    Raises:
        SponError: the function is of another space.
    """
    space = function.function_space
    if space is not order.space and space != order.space:
        raise SponError(f"the function '{function.name}' is of another space than {order.canonical.name}")
    return order.gather(function.x.array)


def point_values(
    space: CanonicalSpace | CanonicalOrder,
    values: Floats,
    points: Floats,
    tolerance: float | None = None,
    outside: str = "refuse",
) -> Floats:
    """Evaluate fields at any points, without communication.

    Where a field jumps between cells, its value is that in the cell of the lowest number.

    Args:
        space: of the fields; the components of a mixed space are stacked.
        values: (DoFs,) or (samples, DoFs) in canonical order.
        points: (n, gdim).
        tolerance: as for `Locator.find`.
        outside: as for `Locator.find`.

    Returns:
        (n, components) or (samples, n, components).

    Raises:
        SponError: values of another shape; points outside the mesh.
    """
    space = space.canonical if isinstance(space, CanonicalOrder) else space
    values = np.asarray(values, dtype=np.float64)
    if values.ndim not in (1, 2) or values.shape[-1] != space.size:
        raise SponError(
            f"values of shape {values.shape}; allowed: ({space.size},) or (samples, {space.size})"
        )
    where = locator(space.mesh.geometry).find(points, tolerance, outside)
    shape = (*values.shape[:-1], len(where.cells), space.value_size)
    if 0 in shape:
        return np.zeros(shape)
    return np.asarray((evaluation(space, where) @ values.T).T).reshape(shape)


def predict(
    model: Any,
    order: CanonicalOrder,
    inputs: Any,
    encoders: Mapping[str, Callable[[Any], Floats]] | None = None,
    shift: Floats | None = None,
) -> Any:
    """Map DOLFINx functions to a DOLFINx function. Collective over the communicator of the space.

    Args:
        model: `OperatorNetwork`, the same on every rank.
        order: canonical order of the space of the output.
        inputs: name → what the encoder of that input takes: a `dolfinx.fem.Function`, a function of
            points, an expression, numbers. Without encoders one `Function` in the space of the output.
        encoders: name → encoder, in the order of the inputs of the discretisation.
        shift: (DoFs,) u_g of this sample; default: that of the discretisation.

    Returns:
        The output in the space of `order`, ghosts up to date.

    Raises:
        SponError: names that differ, or what an encoder or the model refuses.
    """
    if encoders is None:
        vector = dofs_of(order, inputs)
    else:
        if set(inputs) != set(encoders):
            found, allowed = (", ".join(f"'{name}'" for name in names) for names in (inputs, encoders))
            raise SponError(f"inputs {found}; allowed: {allowed}")
        vector = np.concatenate([encode(inputs[name]) for name, encode in encoders.items()])
    more = {} if shift is None else {"shift": np.asarray(shift)[None]}
    return decode(order, model.predict(vector[None], **more)[0])
