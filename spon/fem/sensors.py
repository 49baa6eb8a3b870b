"""Inputs that are numbers: values at points, and plain parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from dolfinx import fem
from scipy.spatial import cKDTree

from spon.errors import SponError
from spon.fem.boundary import canonical_space
from spon.fem.canonical import CanonicalOrder
from spon.fem.encoding import Encoder
from spon.fem.levels import nodal
from spon.fem.location import Locator
from spon.fem.mesh import TaggedMesh
from spon.fem.transfer import evaluation
from spon.space import Space

__all__ = ["Parameters", "Sensors"]

Floats = npt.NDArray[np.float64]


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
