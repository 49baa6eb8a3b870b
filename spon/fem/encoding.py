"""Encoders: what of an input function the network is given, as a vector in canonical order.

Each has a frozen `Space` that says how the vector becomes nodal features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import ufl
from dolfinx import fem
from petsc4py import PETSc

from spon.errors import SponError
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.freeze import freeze_space
from spon.fem.mesh import TaggedMesh
from spon.fem.spaces import CanonicalSpace
from spon.fem.transfer import interpolate
from spon.space import Space

__all__ = ["Dofs", "Encoder", "Moments", "Projection"]

Floats = npt.NDArray[np.float64]


class Encoder(ABC):
    """A linear map from functions to vectors.

    Attributes:
        mesh: that the functions live on.
    """

    mesh: TaggedMesh

    @abstractmethod
    def __call__(self, function: Any) -> Floats:
        """Encode a function. Collective.

        Returns:
            (DoFs,) the same on every rank.
        """

    @abstractmethod
    def freeze(self, degree: int) -> Space:
        """Return what a processor needs to know of the vectors. Collective.

        Args:
            degree: of the scalar Lagrange space that features live in.
        """

    @property
    @abstractmethod
    def description(self) -> str:
        """What tells encoders on one mesh apart, for fingerprints."""

    def is_space(self, space: Any) -> bool:
        """Whether the vectors are the DoFs of this live space."""
        return False


class Dofs(Encoder):
    """The DoFs of a function, which is the identity on the space: E(f) = f.

    Args:
        mesh: mesh of the space.
        space: `dolfinx.fem.FunctionSpace`: Lagrange, DG (DG0 for a value per cell), H(div), H(curl),
            vector or mixed.

    Raises:
        SponError: a space on another mesh.
    """

    def __init__(self, mesh: TaggedMesh, space: Any) -> None:
        self.mesh = mesh
        self.live = space
        self.order = CanonicalOrder(mesh, space)

    @property
    def canonical(self) -> CanonicalSpace:
        """The space in plain arrays."""
        return self.order.canonical

    @property
    def description(self) -> str:
        """What tells encoders on one mesh apart."""
        return f"DoFs of {self.canonical.name}"

    def is_space(self, space: Any) -> bool:
        """Whether the vectors are the DoFs of this live space."""
        return type(self) in (Dofs, Projection) and self.live is space

    def __call__(self, function: Any) -> Floats:
        """Encode a function. Collective.

        Args:
            function: `dolfinx.fem.Function` in the space, or a function of points (3, n) to interpolate.

        Raises:
            SponError: a function in another space.
        """
        if isinstance(function, fem.Function):
            if function.function_space != self.live:
                raise SponError(
                    f"a function in {function.function_space.ufl_element()}; allowed: one in the space of "
                    f"the encoder, {self.canonical.name}, or use Projection"
                )
            return self.order.gather(function.x.array)
        if len(self.canonical.parts) > 1:
            raise SponError(
                f"cannot interpolate into the mixed space {self.canonical.name}; encode a Function"
            )
        return interpolate(self.canonical, function)

    def freeze(self, degree: int) -> Space:
        """Return the frozen space. Collective."""
        return freeze_space(self.order, degree)


class Projection(Dofs):
    """The DoFs of the L2 projection: E(f) = M⁻¹ b, b_i = (f, φ_i) (Bouziani & Boullé 2024, section 3).

    For functions that are not in the space: of another element, or UFL expressions.

    Args:
        mesh: mesh of the space.
        space: that is projected onto.
    """

    def __init__(self, mesh: TaggedMesh, space: Any) -> None:
        super().__init__(mesh, space)
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        self._ksp = PETSc.KSP().create(mesh.comm)
        self._ksp.setOperators(assembled(ufl.inner(u, v) * ufl.dx))
        self._ksp.setType("cg")
        self._ksp.getPC().setType("jacobi")
        self._ksp.setTolerances(rtol=1e-14, max_it=2000)

    def __call__(self, function: Any) -> Floats:
        """Encode a function. Collective.

        Args:
            function: `dolfinx.fem.Function` on the mesh, or a UFL expression of the shape of the space.
        """
        b = _moments(self.live, function)
        x = b.duplicate()
        self._ksp.solve(b, x)
        if self._ksp.getConvergedReason() <= 0:
            raise SponError(
                f"the L2 projection did not converge: PETSc reason {self._ksp.getConvergedReason()}"
            )
        return self.order.gather(x.array_r)


class Moments(Dofs):
    """Moments with the basis functions, b_i = (f, φ_i): the dual encoding, which needs no solve.

    Used by variationally mimetic operator networks (Patel et al. 2024, CMAME 419) and Neural Green's
    Operators. Features are b_i divided by the lumped mass, a local mean of f around the node.

    Args:
        mesh: mesh of the space.
        space: of the basis functions.
    """

    @property
    def description(self) -> str:
        """What tells encoders on one mesh apart."""
        return f"moments with {self.canonical.name}"

    def __call__(self, function: Any) -> Floats:
        """Encode a function. Collective.

        Args:
            function: `dolfinx.fem.Function` on the mesh, or a UFL expression of the shape of the space.
        """
        return self.order.gather_dual(_moments(self.live, function).array_r)

    def freeze(self, degree: int) -> Space:
        """Return the space of moments; its Gram matrix is the inverse of the lumped mass. Collective."""
        primal = freeze_space(self.order, degree)
        scale = sp.diags_array(1.0 / primal.lumped_mass)
        none = sp.csr_array(primal.mass.shape)
        return Space(
            self.description,
            primal.components,
            sp.csr_array(scale),
            none,
            sp.csr_array(primal.features @ scale),
            sp.csr_array(primal.mass @ primal.interpolation),
            None,
            primal.members,
        )


def _moments(space: Any, function: Any) -> PETSc.Vec:
    """Assemble b_i = (f, φ_i), accumulated over the ranks."""
    return assembled_vector(ufl.inner(function, ufl.TestFunction(space)) * ufl.dx)
