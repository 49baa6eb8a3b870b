"""Inputs as coefficients of UFL forms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import ufl
from dolfinx import fem

from spon.errors import SponError
from spon.fem.encoding import Dofs, Encoder, Moments
from spon.fem.sensors import Parameters
from spon.fem.trace import Trace

__all__ = ["Coefficients"]

Floats = npt.NDArray[np.float64]


class Coefficients:
    """A live coefficient for each input, filled from the vector of a sample.

    Args:
        encoders: of the inputs, in the order of the vector.

    Attributes:
        sizes: number of values of each input.
        live: a function for each input, or its constants for parameters.

    Raises:
        SponError: an encoder whose vectors determine no function (moments, sensors).
    """

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        self._encoders = dict(encoders)
        self.live: dict[str, Any] = {}
        self.sizes: dict[str, int] = {}
        for name, encoder in encoders.items():
            if isinstance(encoder, Parameters):
                self.live[name] = [fem.Constant(encoder.mesh.dolfinx, 0.0) for _ in encoder.names]
                self.sizes[name] = len(encoder.names)
            elif isinstance(encoder, Dofs) and not isinstance(encoder, Moments):
                self.live[name] = fem.Function(encoder.live, name=name)
                self.sizes[name] = len(encoder.dofs) if isinstance(encoder, Trace) else encoder.order.size
            else:
                raise SponError(
                    f"input '{name}' is encoded by {type(encoder).__name__}, which determines no function; "
                    "allowed in problems: spaces, Dofs, Projection, Trace, Parameters"
                )

    @cached_property
    def variables(self) -> dict[str, Any]:
        """What forms can be differentiated in: the function of each input, or UFL variables of parameters."""
        return {
            name: [ufl.variable(one) for one in live] if isinstance(live, list) else live
            for name, live in self.live.items()
        }

    @cached_property
    def ufl(self) -> Any:
        """The only input, or name → input, as `Problem.residual` takes it."""
        out = {}
        for name, one in self.variables.items():
            if isinstance(one, list):
                one = one[0] if len(one) == 1 else ufl.as_vector(one)
            out[name] = one
        return next(iter(out.values())) if len(out) == 1 else out

    def __contains__(self, item: Any) -> bool:
        """Whether a UFL coefficient or constant is an input."""
        flat = [one for live in self.live.values() for one in (live if isinstance(live, list) else [live])]
        return any(item is one for one in flat)

    @property
    def size(self) -> int:
        """Number of values of all inputs."""
        return sum(self.sizes.values())

    def split(self, vector: Floats) -> dict[str, Floats]:
        """Return the values of each input, (DoFs,) each."""
        ends = np.cumsum(list(self.sizes.values()))
        return dict(zip(self.sizes, np.split(vector, ends[:-1]), strict=True))

    def set(self, vector: Floats) -> None:
        """Fill the coefficients.

        Args:
            vector: (DoFs of all inputs,), the same on every rank.
        """
        for name, values in self.split(vector).items():
            live, encoder = self.live[name], self._encoders[name]
            if isinstance(live, list):
                for constant, value in zip(live, values, strict=True):
                    constant.value = value
            elif isinstance(encoder, Trace):
                whole = np.zeros(encoder.order.size)
                whole[encoder.dofs] = values
                encoder.order.scatter(whole, live)
            else:
                assert isinstance(encoder, Dofs)
                encoder.order.scatter(values, live)

    def gather_dual(self, name: str, assembled: Floats) -> Floats:
        """Gather an assembled linear form on the space of an input: the transpose of `set`. Collective.

        Args:
            name: of an input that is a function.
            assembled: (owned DoFs of its live space, …), accumulated over the ranks.

        Returns:
            (values of the input,).
        """
        encoder = self._encoders[name]
        assert isinstance(encoder, Dofs)
        dual = encoder.order.gather_dual(assembled)
        return dual[encoder.dofs] if isinstance(encoder, Trace) else dual
