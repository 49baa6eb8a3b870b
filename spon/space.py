"""A finite-element space as arrays: Gram matrices, and its way to and from nodal features."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.errors import SponError
from spon.storage import MatrixReader, write_csr

__all__ = ["Space"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """The space of an input or of the output, in canonical order.

    Nodal features are values at the nodes of the finest level; the components of a node are adjacent.

    Args:
        element: in words, such as "RT1 triangle", "P2 triangle x 2 + P1 triangle", "parameters".
        components: of a function of the space, those of all members of a mixed space.
        mass: (DoFs, DoFs) L2 Gram matrix.
        stiffness: (DoFs, DoFs) Gram matrix of the seminorm that belongs to the element: gradients for
            Lagrange and (cell by cell) DG, divergence for H(div), curl for H(curl).
        features: (nodes · components, DoFs) values at the nodes; where a function jumps between
            cells, their mean weighted with the share of each cell in the mass of the node.
        interpolation: (DoFs, nodes · components) the element's interpolation of nodal values.
        energy: (DoFs, DoFs) Gram matrix of an energy norm, if one was given.
        members: (first DoF, DoFs) of each member of a mixed space.
    """

    element: str
    components: int
    mass: sp.csr_array
    stiffness: sp.csr_array
    features: sp.csr_array
    interpolation: sp.csr_array
    energy: sp.csr_array | None = None
    members: tuple[tuple[int, int], ...] = ()

    MATRICES = ("mass", "stiffness", "features", "interpolation", "energy")

    @property
    def dofs(self) -> int:
        """Number of DoFs."""
        return int(self.mass.shape[0])

    @property
    def lumped_mass(self) -> Floats:
        """(DoFs,) positive weights: row sums of the mass where all are positive, else its diagonal."""
        rows, diagonal = np.asarray(self.mass.sum(axis=1)).ravel(), self.mass.diagonal()
        if (rows > 1e-3 * diagonal).all():
            return rows
        return np.asarray(diagonal)

    def gram(self, norm: str) -> sp.csr_array:
        """Return the Gram matrix of a norm.

        Args:
            norm: "l2", "h1" (mass + stiffness, the graph norm of the element) or "energy".

        Raises:
            SponError: another norm, or "energy" where none was given.
        """
        if norm == "energy" and self.energy is not None:
            return self.energy
        if norm == "h1":
            return self.mass + self.stiffness
        if norm == "l2":
            return self.mass
        allowed = "l2, h1" if self.energy is None else "l2, h1, energy"
        raise SponError(f"norm '{norm}'; allowed: {allowed}")

    def write(self, group: h5py.Group, known: dict[int, h5py.Group]) -> None:
        """Write into an HDF5 group.

        Args:
            group: empty.
            known: groups of matrices that are in the file already, by `id`, for links.
        """
        group.attrs["element"], group.attrs["components"] = self.element, self.components
        group["members"] = [list(m) for m in self.members]
        for name in self.MATRICES:
            matrix = getattr(self, name)
            if matrix is None:
                continue
            if id(matrix) in known:
                group[name] = known[id(matrix)]
            else:
                write_csr(group, name, matrix)
                known[id(matrix)] = group[name]

    @classmethod
    def read(cls, group: h5py.Group, matrices: MatrixReader) -> Space:
        """Read from an HDF5 group."""
        members = tuple((int(a), int(b)) for a, b in group["members"][()])
        return cls(
            str(group.attrs["element"]),
            int(group.attrs["components"]),
            matrices.read(group, "mass"),
            matrices.read(group, "stiffness"),
            matrices.read(group, "features"),
            matrices.read(group, "interpolation"),
            matrices.find(group, "energy"),
            members,
        )
