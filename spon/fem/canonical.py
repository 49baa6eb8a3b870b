"""Canonical numbering: one order of DoFs for files, whatever DOLFINx and MPI make of the mesh."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from petsc4py import PETSc

from spon import _compat
from spon.errors import SponError
from spon.fem.mesh import TaggedMesh

__all__ = ["CanonicalOrder"]


class CanonicalOrder:
    """The map between the DoFs of a live space and the canonical order.

    For first-order Lagrange spaces, DoF i in canonical order belongs to point i of the input mesh.

    Args:
        mesh: the mesh of the space.
        space: `dolfinx.fem.FunctionSpace`, scalar Lagrange of degree 1. Collective.

    Attributes:
        local: (owned + ghost DoFs,) canonical number of each local DoF.
        everywhere: (DoFs,) canonical number of each global DoF of DOLFINx.

    Raises:
        SponError: the space is on another mesh, or its element is not Lagrange of degree 1.
    """

    def __init__(self, mesh: TaggedMesh, space: Any) -> None:
        element = space.element.basix_element
        if space.mesh is not mesh.dolfinx and space.mesh._cpp_object is not mesh.dolfinx._cpp_object:
            raise SponError(f"the space lives on another mesh than {mesh.arrays.source}")
        if element.family.name != "P" or element.degree != 1 or space.dofmap.bs != 1:
            raise SponError(
                f"element {element.family.name} of degree {element.degree} with block size "
                f"{space.dofmap.bs}; allowed: scalar Lagrange (P) of degree 1"
            )
        self.mesh, self.space = mesh, space
        index_map = space.dofmap.index_map
        self.owned = int(index_map.size_local)
        local = np.full(self.owned + index_map.num_ghosts, -1, dtype=np.int64)
        points = np.asarray(mesh.dolfinx.geometry.input_global_indices)
        local[space.dofmap.list] = points[_compat.geometry_dofmap(mesh.dolfinx)]
        self.local: npt.NDArray[np.int64] = local
        self.everywhere = np.concatenate(mesh.comm.allgather(local[: self.owned]))

    def gather(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Gather a vector on all ranks, in canonical order. Collective.

        Args:
            values: (owned DoFs, …) or longer; ghosts are ignored.

        Returns:
            (DoFs,) float64.
        """
        parts = self.space.mesh.comm.allgather(np.asarray(values[: self.owned]))
        out = np.empty(len(self.everywhere))
        out[self.everywhere] = np.concatenate(parts)
        return out

    def scatter(self, values: npt.NDArray[np.float64], function: Any) -> None:
        """Write canonical values into a live function, ghosts included.

        Args:
            values: (DoFs,) in canonical order, the same on every rank.
            function: `dolfinx.fem.Function` in the space.

        Raises:
            SponError: wrong length.
        """
        if np.shape(values) != self.everywhere.shape:
            raise SponError(f"values of shape {np.shape(values)}; allowed: {self.everywhere.shape}")
        function.x.array[:] = values[self.local]

    def matrix(self, matrix: PETSc.Mat) -> sp.csr_array:
        """Gather an assembled matrix on all ranks, rows and columns in canonical order. Collective.

        Args:
            matrix: square, on this space.
        """
        indptr, indices, data = matrix.getValuesCSR()
        first, last = matrix.getOwnershipRange()
        rows = np.repeat(self.everywhere[first:last], np.diff(indptr))
        entries = self.space.mesh.comm.allgather((rows, self.everywhere[indices], data))
        row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
        n = len(self.everywhere)
        gathered = sp.csr_array((value, (row, column)), shape=(n, n))
        gathered.sort_indices()
        return gathered
