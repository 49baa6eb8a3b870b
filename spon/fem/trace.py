"""Boundary data as an input."""

from __future__ import annotations

from typing import Any

import basix
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import ufl

from spon.errors import SponError
from spon.fem.assembly import assembled
from spon.fem.boundary import carried
from spon.fem.encoding import Dofs
from spon.fem.freeze import freeze_space
from spon.fem.mesh import TaggedMesh
from spon.space import Space

__all__ = ["Trace"]

Floats = npt.NDArray[np.float64]


class Trace(Dofs):
    """The DoFs of a function on a named boundary, such as Dirichlet data g.

    Lagrange: values there; H(div): normal components; H(curl): tangential ones. The vector follows
    `Discretisation.boundary_dofs` of that boundary, if the space is that of the output.

    Args:
        mesh: mesh of the space.
        space: not mixed.
        boundary: name.

    Raises:
        SponError: an unknown boundary, a mixed space, or an element without DoFs on boundaries.
    """

    def __init__(self, mesh: TaggedMesh, space: Any, boundary: str) -> None:
        super().__init__(mesh, space)
        if len(self.canonical.parts) > 1:
            raise SponError(f"a trace of the mixed space {self.canonical.name}; allowed: one of its members")
        self.boundary = boundary
        self.dofs = carried(self.canonical, boundary).ravel()

    @property
    def description(self) -> str:
        """What tells encoders on one mesh apart."""
        return f"trace of {self.canonical.name} on {self.boundary!r}"

    def __call__(self, function: Any) -> Floats:
        """Encode a function. Collective.

        Args:
            function: `dolfinx.fem.Function` in the space, or a function of points (3, n).
        """
        return super().__call__(function)[self.dofs]

    def freeze(self, degree: int) -> Space:
        """Return the space of traces, its Gram matrix that of L2 on the boundary. Collective."""
        whole = freeze_space(self.order, degree)
        u, v = ufl.TrialFunction(self.live), ufl.TestFunction(self.live)
        n = ufl.FacetNormal(self.mesh.dolfinx)
        kind = self.canonical.parts[0].numbering.element.map_type
        if kind == basix.MapType.contravariantPiola:
            integrand = ufl.dot(u, n) * ufl.dot(v, n)
        elif kind == basix.MapType.covariantPiola:
            integrand = ufl.inner(u, v) - ufl.dot(u, n) * ufl.dot(v, n)
        else:
            integrand = ufl.inner(u, v)
        mass = self.order.matrix(assembled(integrand * self.mesh.ds(self.boundary)))
        here = self.dofs
        return Space(
            self.description,
            whole.components,
            sp.csr_array(mass[here][:, here]),
            sp.csr_array((len(here), len(here))),
            sp.csr_array(whole.features[:, here]),
            sp.csr_array(whole.interpolation[here]),
        )
