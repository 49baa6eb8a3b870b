"""The coordinate maps of an input mesh, many points at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spon.errors import SponError
from spon.fem import reference
from spon.fem.arrays import MeshArrays

__all__ = ["Geometry"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NEWTON_STEPS = 20


class Geometry:
    """x = F_K(X) for the cells K of a mesh, by its Lagrange coordinate element.

    Args:
        arrays: input mesh.
    """

    def __init__(self, arrays: MeshArrays) -> None:
        self.arrays = arrays
        self.element = reference.element(arrays.cell_type, arrays.degree)
        self.affine = arrays.degree == 1 and arrays.cell_type in ("triangle", "tetrahedron")

    def points(self, cells: Integers, X: Floats) -> Floats:
        """Return x, (n, gdim), of reference points X, (n, tdim), on cells (n,)."""
        if len(X) == 0:  # basix would crash
            return np.zeros((0, self.arrays.gdim))
        phi = self.element.tabulate(0, X)[0, :, :, 0]
        phi = np.where(np.abs(phi - np.rint(phi)) < 1e-14, np.rint(phi), phi)  # nodes to the last bit
        return np.einsum("nk,nkd->nd", phi, self.arrays.points[self.arrays.cells[cells]])

    def jacobians(self, cells: Integers, X: Floats) -> Floats:
        """Return ∂x_i/∂X_j, (n, gdim, tdim), at reference points X, (n, tdim), on cells (n,)."""
        if len(X) == 0:
            return np.zeros((0, self.arrays.gdim, self.arrays.tdim))
        slopes = self.element.tabulate(1, X)[1:, :, :, 0]
        return np.einsum("jnk,nki->nij", slopes, self.arrays.points[self.arrays.cells[cells]])

    def everywhere(self, X: Floats) -> tuple[Integers, Floats]:
        """Return cell numbers and reference points for the same X in every cell, cell by cell.

        Args:
            X: (points, tdim).

        Returns:
            (cells · points,) and (cells · points, tdim).
        """
        m = len(self.arrays.cells)
        return np.repeat(np.arange(m), len(X)), np.tile(X, (m, 1))

    def pull_back(self, cells: Integers, x: Floats) -> Floats:
        """Return X, (n, tdim), with F_K(X) = x on given cells; X may lie outside the cell.

        Args:
            cells: (n,).
            x: (n, gdim).

        Raises:
            SponError: Newton's method failed, on a badly distorted cell.
        """
        middle = reference.nodes(self.arrays.cell_type, 1).mean(axis=0)
        X = np.tile(middle, (len(x), 1))
        size = np.ptp(self.arrays.points[self.arrays.cells[cells]], axis=1).max(axis=1, initial=0.0)
        for _ in range(1 if self.affine else _NEWTON_STEPS):
            residual = x - self.points(cells, X)
            X += np.linalg.solve(self.jacobians(cells, X), residual[:, :, None])[:, :, 0]
            far = np.abs(residual).max(axis=1, initial=0.0) > 1e-13 * size
            if not far.any():
                return X
        if not self.affine:
            gap = np.abs(x - self.points(cells, X)).max(axis=1) / size
            if gap.max() > 1e-10:
                worst = cells[gap.argmax()]
                raise SponError(f"{self.arrays.source}: cannot invert the map of cell {worst}: too distorted")
        return X
