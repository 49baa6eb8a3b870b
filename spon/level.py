"""One level of a hierarchy: a mesh with the scalar Lagrange space that features live in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

__all__ = ["Level", "Reference", "restriction"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """A scalar Lagrange element tabulated on the reference cell, with n nodes.

    Args:
        cell_type: "triangle", "quadrilateral", "tetrahedron" or "hexahedron".
        degree: of the element.
        weights: (q,) of a quadrature rule that integrates the stiffness of affine cells exactly.
        values: (q, n) basis at the quadrature points.
        slopes: (tdim, q, n) its reference gradient there.
        map_slopes: (tdim, q, g) of the coordinate element, with g nodes.
        node_slopes: (tdim, n, n) reference gradient at the nodes.
        node_map_slopes: (tdim, n, g).
    """

    cell_type: str
    degree: int
    weights: Array
    values: Array
    slopes: Array
    map_slopes: Array
    node_slopes: Array
    node_map_slopes: Array

    ARRAYS = ("weights", "values", "slopes", "map_slopes", "node_slopes", "node_map_slopes")

    def write(self, group: h5py.Group) -> None:
        """Write into an empty HDF5 group."""
        group.attrs["cell_type"], group.attrs["degree"] = self.cell_type, self.degree
        for name in self.ARRAYS:
            group[name] = getattr(self, name)

    @classmethod
    def read(cls, group: h5py.Group) -> Reference:
        """Read what `write` wrote."""
        tables = {name: group[name][()] for name in cls.ARRAYS}
        return cls(str(group.attrs["cell_type"]), int(group.attrs["degree"]), **tables)


@dataclass(frozen=True)
class Level:
    """A mesh with a scalar Lagrange space, in canonical order; or an algebraic coarse level.

    Args:
        points: (nodes, gdim) float64, nodes of the space.
        cells: (cells, nodes of a cell) int64, in the reference order of DOLFINx.
        mass: (nodes, nodes) L2 Gram matrix ∫ φ_i φ_j.
        stiffness: (nodes, nodes) H1-seminorm Gram matrix ∫ ∇φ_i·∇φ_j.
        fixed: (nodes,) bool, nodes where every component of the latent features is prescribed.
        prolongation: (nodes, nodes of the next coarser level), None on the coarsest.
        reference: the element.
        mesh: (points, cells) of the geometry where these are not the nodes of the space.
        finer: the next finer level, for an algebraic level, whose functions are those Σ_j P_ij φ_i of
            the finer one; its `cells` are empty and its `points` mean positions.
    """

    points: Array
    cells: Array
    mass: sp.csr_array
    stiffness: sp.csr_array
    fixed: Array
    prolongation: sp.csr_array | None
    reference: Reference
    mesh: tuple[Array, Array] | None = None
    finer: Level | None = None

    @property
    def gdim(self) -> int:
        """Geometric dimension."""
        return int(self.points.shape[1])

    @cached_property
    def lumped_mass(self) -> Array:
        """(nodes,) positive weights with the sum of the mass matrix.

        Row sums for first-order elements and algebraic levels; for higher orders, where row sums may
        vanish, the diagonal scaled to the same total (Hinton, Rock & Zienkiewicz 1976).
        """
        if self.reference.degree == 1 or self.finer is not None:
            return np.asarray(self.mass.sum(axis=1)).ravel()
        diagonal = self.mass.diagonal()
        return np.asarray(diagonal * (self.mass.sum() / diagonal.sum()))

    def _jacobians(self, slopes: Array) -> Array:
        """∂x_i/∂X_j, (cells, points, gdim, tdim), for coordinate slopes (tdim, points, g)."""
        points, cells = (self.points, self.cells) if self.mesh is None else self.mesh
        return np.einsum("jqg,cgi->cqij", slopes, points[cells])

    @cached_property
    def weights(self) -> Array:
        """(quadrature points,) weights |det J| w, cell by cell; their sum is the measure of the mesh."""
        if self.finer is not None:
            return self.finer.weights
        J = self._jacobians(self.reference.map_slopes)
        return np.asarray((np.abs(np.linalg.det(J)) * self.reference.weights).ravel())

    @cached_property
    def gradient(self) -> sp.csr_array:
        """(gdim · quadrature points, nodes): ∂u/∂x_d at point q is row d · points + q.

        Gᵀ (weights ⊙ G u) summed over d is the stiffness, exactly on affine cells.
        """
        if self.finer is not None:
            assert self.finer.prolongation is not None
            return sp.csr_array(self.finer.gradient @ self.finer.prolongation)
        slopes = self._physical(self.reference.slopes, self.reference.map_slopes)
        return self._rows(slopes.transpose(2, 0, 1, 3))

    @cached_property
    def values(self) -> sp.csr_array:
        """(quadrature points, nodes): u at the quadrature points."""
        if self.finer is not None:
            assert self.finer.prolongation is not None
            return sp.csr_array(self.finer.values @ self.finer.prolongation)
        table = self.reference.values
        return self._rows(np.broadcast_to(table, (1, len(self.cells), *table.shape)))

    def _physical(self, slopes: Array, map_slopes: Array) -> Array:
        """∂φ_k/∂x_i at points of every cell, (cells, points, gdim, nodes of a cell)."""
        inverse = np.linalg.inv(self._jacobians(map_slopes))
        return np.asarray(np.einsum("jqk,cqji->cqik", slopes, inverse))

    def _rows(self, table: Array) -> sp.csr_array:
        """Rows for tables (components, cells, points, nodes of a cell)."""
        d, m, q, n = table.shape
        columns = np.broadcast_to(self.cells[None, :, None, :], table.shape).reshape(-1, n)
        indptr = np.arange(0, table.size + 1, n)
        shape = (d * m * q, len(self.points))
        out = sp.csr_array((table.reshape(-1), columns.astype(np.int32).ravel(), indptr), shape=shape)
        out.sort_indices()
        return out

    @cached_property
    def recovered_gradient(self) -> list[sp.csr_array]:
        """For each direction (nodes, nodes): the mean over the cells of a node of their gradients there.

        Cells are weighted with their share ∫_K φ_i² of the mass of the node. Exact for polynomials of
        the element's degree on affine cells.
        """
        if self.finer is not None:  # Galerkin
            assert self.finer.prolongation is not None
            P, fine = self.finer.prolongation, self.finer
            down = sp.diags_array(1.0 / self.lumped_mass) @ P.T @ sp.diags_array(fine.lumped_mass)
            return [sp.csr_array(down @ R @ P) for R in fine.recovered_gradient]
        slopes = self._physical(self.reference.node_slopes, self.reference.node_map_slopes)
        m, n = self.cells.shape
        shares = self.weights.reshape(m, -1) @ self.reference.values**2
        nodes = self.cells.ravel()
        total = np.bincount(nodes, shares.ravel(), minlength=len(self.points))
        mean = sp.csr_array(
            (shares.ravel() / total[nodes], (nodes, np.arange(m * n))), shape=(len(self.points), m * n)
        )
        return [sp.csr_array(mean @ self._rows(slopes[None, :, :, d])) for d in range(self.gdim)]


def restriction(fine: Level, coarse: Level) -> sp.csr_array:
    """Return R = M_c⁻¹ Pᵀ M_f with lumped masses, for nodal values: (coarse nodes, fine nodes).

    The adjoint of the prolongation P in the lumped inner products; keeps constants up to lumping.
    The transpose Pᵀ itself is for dual vectors, such as residuals.

    Args:
        fine: a level with a prolongation.
        coarse: the next one.
    """
    assert fine.prolongation is not None
    scaled = fine.prolongation.T @ sp.diags_array(fine.lumped_mass)
    out = sp.csr_array(sp.diags_array(1.0 / coarse.lumped_mass) @ scaled)
    out.sort_indices()
    return out
