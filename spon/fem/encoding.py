"""Encoders: what of an input function the network is given, as a vector in canonical order.

Each has a frozen `Space` that says how the vector becomes nodal features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import basix
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import ufl
from dolfinx import fem
from petsc4py import PETSc
from scipy.spatial import cKDTree

from spon.errors import SponError
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.boundary import canonical_space, carried
from spon.fem.canonical import CanonicalOrder, CanonicalSpace
from spon.fem.freeze import freeze_space
from spon.fem.levels import nodal
from spon.fem.location import Locator
from spon.fem.mesh import TaggedMesh
from spon.fem.transfer import evaluation, interpolate
from spon.space import Space

__all__ = ["Dofs", "Encoder", "Moments", "Parameters", "Projection", "Sensors", "Trace"]

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


class Sensors(Encoder):
    """Values at points.

    Features at a node are the inverse-distance mean of the nearest gdim + 1 sensors (Shepard 1968).

    Args:
        mesh: that the points lie in.
        points: (n, gdim).
        components: of the functions that are measured.

    Raises:
        SponError: points of another dimension, or outside the mesh.
    """

    def __init__(self, mesh: TaggedMesh, points: npt.ArrayLike, components: int = 1) -> None:
        self.mesh = mesh
        self.points = np.atleast_2d(np.asarray(points, dtype=np.float64))
        self.components = components
        self.where = Locator(mesh.geometry).find(self.points)

    @property
    def description(self) -> str:
        """What tells encoders on one mesh apart."""
        return f"values at {self.points.tolist()} x {self.components}"

    def __call__(self, function: Any) -> Floats:
        """Encode a function. Collective.

        Args:
            function: `dolfinx.fem.Function` on the mesh, or a function of points (3, n).

        Raises:
            SponError: another number of components.
        """
        if isinstance(function, fem.Function):
            order = CanonicalOrder(self.mesh, function.function_space)
            canonical_space(self.mesh, function.function_space)
            out = evaluation(order.canonical, self.where) @ order.gather(function.x.array)
        else:
            x = np.pad(self.points, ((0, 0), (0, 3 - self.points.shape[1]))).T
            out = np.asarray(function(x), dtype=np.float64).reshape(-1, len(self.points)).T.ravel()
        if len(out) != len(self.points) * self.components:
            found = len(out) // len(self.points)
            raise SponError(f"a function of {found} components at the sensors; allowed: {self.components}")
        return np.asarray(out)

    def freeze(self, degree: int) -> Space:
        """Return the space of sensor values, with the mean square as norm."""
        n, c = len(self.points), self.components
        nodes = nodal(self.mesh, degree).nodes
        near = min(n, nodes.shape[1] + 1)
        distance, sensor = (a.reshape(len(nodes), near) for a in cKDTree(self.points).query(nodes, k=near))
        floor = 1e-12 * float(np.ptp(nodes, axis=0).max())
        weights = 1.0 / np.maximum(distance, floor)
        weights /= weights.sum(axis=1, keepdims=True)
        rows = np.repeat(np.arange(len(nodes)), near)
        spread = sp.csr_array((weights.ravel(), (rows, sensor.ravel())), shape=(len(nodes), n))
        return Space(
            f"values at {n} points",
            c,
            sp.csr_array(sp.eye_array(n * c) / n),
            sp.csr_array((n * c, n * c)),
            sp.csr_array(sp.kron(spread, sp.eye_array(c))),
            evaluation(nodal(self.mesh, degree, c), self.where),
        )


class Parameters(Encoder):
    """Plain numbers, such as a load or a material constant; each is a feature, the same at every node.

    Args:
        mesh: that the features live on.
        names: of the parameters.
    """

    def __init__(self, mesh: TaggedMesh, names: Sequence[str]) -> None:
        self.mesh = mesh
        self.names = tuple(names)
        if not self.names:
            raise SponError("no parameter; allowed: one name or more")

    @property
    def description(self) -> str:
        """What tells encoders on one mesh apart."""
        return f"parameters {', '.join(self.names)}"

    def __call__(self, function: Any) -> Floats:
        """Return the numbers as a vector.

        Args:
            function: (parameters,) numbers.

        Raises:
            SponError: another number of them.
        """
        values = np.asarray(function, dtype=np.float64).reshape(-1)
        if len(values) != len(self.names):
            raise SponError(f"{len(values)} parameters; allowed: {len(self.names)}: {', '.join(self.names)}")
        return values

    def freeze(self, degree: int) -> Space:
        """Return the space of parameters, with the Euclidean norm."""
        n, nodes = len(self.names), nodal(self.mesh, degree).size
        everywhere = sp.csr_array(np.ones((nodes, 1)))
        one = sp.csr_array(sp.eye_array(n))
        none = sp.csr_array((n, n))
        to_nodes = sp.csr_array(sp.kron(everywhere, one))
        mean = sp.csr_array(to_nodes.T / nodes)
        return Space(self.description, n, one, none, to_nodes, mean)


def _moments(space: Any, function: Any) -> PETSc.Vec:
    """Assemble b_i = (f, φ_i), accumulated over the ranks."""
    return assembled_vector(ufl.inner(function, ufl.TestFunction(space)) * ufl.dx)
