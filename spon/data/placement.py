"""Arrays of values at the nodes or in the cells of a mesh, as DoFs of finite-element spaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from dolfinx import fem

from spon.data.numeric import numeric
from spon.errors import SponError
from spon.fem.assembly import lagrange
from spon.fem.mesh import TaggedMesh
from spon.fem.sensors import Parameters
from spon.fem.serendipity import SERENDIPITY, complete
from spon.fem.spaces import CanonicalSpace

__all__ = ["PLACES", "Placed", "Placement"]

PLACES = ("nodes", "cells", "parameters", "lagrange2")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Placed:
    """Samples of a function.

    Args:
        space: live space, or `spon.Parameters`.
        values: (samples, DoFs) in canonical order.
    """

    space: Any
    values: Floats


class Placement:
    """What arrays can be on a mesh; spaces are made once.

    The number of values of a sample decides: one for each point of the mesh gives Lagrange functions of the
    degree of its cells, one for each vertex first-order ones, one for each cell DG0. Nodes are in the order
    of the points of the mesh file, cells in that of its cells. Serendipity data (8 or 20 nodes in a cell)
    are completed as the cells themselves are.

    Args:
        mesh: that the arrays belong to.
    """

    def __init__(self, mesh: TaggedMesh) -> None:
        self.mesh = mesh
        self._spaces: dict[tuple[int, int], Any] = {}
        arrays = mesh.arrays
        whole = len(arrays.points)
        self.nodes = {whole: arrays.degree}
        self.serendipity = 0
        if arrays.degree == 2:
            own = SERENDIPITY.get(arrays.cell_type, 0)
            self.nodes[len(mesh.topology.vertex_points)] = 1
            if own and int(arrays.cells[:, own:].min()) > int(arrays.cells[:, :own].max()):
                self.serendipity = int(arrays.cells[:, :own].max()) + 1
                self.nodes[self.serendipity] = 2

    @property
    def allowed(self) -> str:
        """How many values a sample may have, in words."""
        nodes = " or ".join(f"{n} nodes" for n in self.nodes)
        return f"{nodes}, {len(self.mesh.arrays.cells)} cells"

    def __call__(self, label: str, name: str, array: npt.ArrayLike, place: str | None = None) -> Placed:
        """Find out what an array is.

        Args:
            label: what it is, for messages, such as "input 'kappa'".
            name: of the input or output.
            array: (samples, nodes or cells[, components]), or (samples[, parameters]).
            place: "nodes", "cells", "parameters", or "lagrange2" for DoFs of second-order Lagrange functions
                in canonical order; None: by the length.

        Raises:
            SponError: a length that does not fit the mesh, or that fits both nodes and cells; values that
                are not finite real numbers.
        """
        if place not in (None, *PLACES):
            raise SponError(f"{label} at {place}; allowed: {', '.join(PLACES)}")
        found = numeric(label, array)
        if place is None and found.ndim == 1:
            place = "parameters"
        if place == "parameters":
            if found.ndim > 2:
                raise SponError(
                    f"{label} of shape {found.shape}; allowed: (samples,) or (samples, parameters)"
                )
            numbers = found.reshape(len(found), -1).astype(np.float64)
            width = numbers.shape[1]
            names = [name] if width == 1 else [f"{name}{k}" for k in range(width)]
            return Placed(Parameters(self.mesh, names), numbers)
        if found.ndim not in (2, 3):
            raise SponError(
                f"{label} of shape {found.shape}; allowed: (samples, n) or (samples, n, components) with n = "
                f"{self.allowed}"
            )
        n, cells = found.shape[1], len(self.mesh.arrays.cells)
        if place == "lagrange2":
            return self._second_order(label, found)
        fits = [p for p, there in (("nodes", n in self.nodes), ("cells", n == cells)) if there]
        if len(fits) == 2 and place is None:
            raise SponError(
                f"{label}: {n} values fit the nodes and the cells of {self.mesh.arrays.source}; say which: "
                f"at {name}=nodes or at {name}=cells"
            )
        if (place or "") not in ("", *fits) or not fits:
            swapped = "; samples come first" if found.shape[0] in (*self.nodes, cells) else ""
            raise SponError(
                f"{label} of shape {found.shape} has {n} values in a sample; {self.mesh.arrays.source} has "
                f"{self.allowed}; for plain numbers say at {name}=parameters{swapped}"
            )
        values = found.reshape(len(found), n, -1).astype(np.float64)
        return self._in_cells(values) if (place or fits[0]) == "cells" else self._at_nodes(values)

    def _second_order(self, label: str, found: npt.NDArray[Any]) -> Placed:
        components = found.shape[2] if found.ndim == 3 else 1
        space = self._space(2, components)
        size = CanonicalSpace(self.mesh, space.ufl_element()).size // components
        if found.shape[1] != size:
            raise SponError(
                f"{label} of shape {found.shape} at lagrange2; allowed: {size} values in a sample"
            )
        return Placed(space, found.reshape(len(found), -1).astype(np.float64))

    def _in_cells(self, values: Floats) -> Placed:
        return Placed(self._space(0, values.shape[2]), values.reshape(len(values), -1))

    def _at_nodes(self, values: Floats) -> Placed:
        arrays = self.mesh.arrays
        degree, components = self.nodes[values.shape[1]], values.shape[2]
        space = self._space(degree, components)
        if degree == arrays.degree:
            if values.shape[1] == self.serendipity:
                values = self._completed(values)
            (part,) = CanonicalSpace(self.mesh, space.ufl_element()).parts
            # the nodes of the element are those of the cells, in the same order
            position = np.empty(len(arrays.points), dtype=np.int64)
            position[arrays.cells] = part.numbering.dofmap
            out = np.empty_like(values)
            out[:, position] = values
            values = out
        return Placed(space, values.reshape(len(values), -1))

    def _completed(self, values: Floats) -> Floats:
        arrays = self.mesh.arrays
        samples, n, components = values.shape
        flat = values.transpose(1, 0, 2).reshape(n, -1)
        own = arrays.cells[:, : SERENDIPITY[arrays.cell_type]]
        whole, _ = complete(arrays.cell_type, flat, own)
        return whole.reshape(-1, samples, components).transpose(1, 0, 2)

    def _space(self, degree: int, components: int) -> Any:
        key = (degree, components)
        if key not in self._spaces:
            shape = [(components,)] if components > 1 else []
            self._spaces[key] = (
                lagrange(self.mesh, degree, components)
                if degree
                else fem.functionspace(self.mesh.dolfinx, ("DG", 0, *shape))
            )
        return self._spaces[key]
