"""Quadrature points of a macroscopic problem: strains there, and what stresses and tangents give back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import ufl
from dolfinx import fem

from spon.errors import SponError
from spon.fem import reference
from spon.fem.mesh import TaggedMesh
from spon.multiscale.voigt import DIMENSIONS

__all__ = ["MacroPoints"]

Floats = npt.NDArray[np.float64]


class MacroPoints:
    """The quadrature points in this rank's own cells. Collective.

    DOLFINx tabulates the strains of the basis functions once, ε = B u cell by cell; all later work is dense
    products of small matrices. Strains and stresses are Voigt vectors as in `spon.multiscale.voigt`.

    Args:
        mesh: of a plane or a body.
        space: vectors with a component for each dimension, continuous.
        degree: polynomials that the quadrature integrates exactly on the reference cell; default: enough for
            the product of two strains on straight cells (2k − 2 on simplices, 2k on others, k the space's).

    Attributes:
        degree: of the quadrature.
        size: n, components of a strain.
        reference: (points per cell, tdim) in the reference cell.
        coordinates: (points, gdim), cell by cell.
        weights: (points,) volume of each, of unit thickness in the plane.
        numbers: (points,) int64, the same whatever the number of ranks: number of the cell in the input
            mesh × points per cell + number in the cell.

    Raises:
        SponError: another space, a degree < 0, a surface in space.
    """

    def __init__(self, mesh: TaggedMesh, space: Any, degree: int | None = None) -> None:
        live, gdim, tdim = mesh.dolfinx, mesh.arrays.gdim, mesh.arrays.tdim
        element, block = space.ufl_element(), space.dofmap.index_map_bs
        if gdim != tdim or gdim not in DIMENSIONS.values() or block != gdim or element.discontinuous:
            raise SponError(
                f"a two-scale problem on {element} in {gdim} dimensions; allowed: continuous vectors with "
                "a component for each dimension, on meshes of the plane or of space"
            )
        k = int(element.degree)
        simplex = mesh.arrays.cell_type in ("triangle", "tetrahedron")
        self.degree = (2 * k - 2 if simplex else 2 * k) if degree is None else degree
        if self.degree < 0:
            raise SponError(f"degree = {degree} of the quadrature; allowed: >= 0")
        self.reference, weights = reference.quadrature(mesh.arrays.cell_type, self.degree)
        q, self.size = len(weights), {d: n for n, d in DIMENSIONS.items()}[gdim]
        cells = np.arange(live.topology.index_map(tdim).size_local, dtype=np.int32)
        original = np.asarray(live.topology.original_cell_index[: len(cells)], dtype=np.int64)
        self.numbers = (q * original[:, None] + np.arange(q)).ravel()

        def tabulated(expression: Any, width: int) -> Floats:  # also where a rank has no cells
            values = fem.Expression(expression, self.reference).eval(live, cells)
            return np.asarray(values, dtype=np.float64).reshape(len(cells), q, width)

        volume = np.abs(tabulated(ufl.JacobianDeterminant(live), 1)[..., 0])
        self.weights = (volume * weights).ravel()
        self.coordinates = tabulated(ufl.SpatialCoordinate(live), gdim).reshape(-1, gdim)
        nodes = np.asarray(space.dofmap.list, dtype=np.int32)[: len(cells)]
        dofs = block * nodes.shape[1]
        self.dofs = (block * nodes[:, :, None] + np.arange(block, dtype=np.int32)).reshape(len(cells), dofs)
        index_map = space.dofmap.index_map
        self._local = block * (index_map.size_local + index_map.num_ghosts)
        B = tabulated(_strain(ufl.TrialFunction(space)), self.size * dofs)
        self._B = B.reshape(len(cells), q * self.size, dofs)

    def __len__(self) -> int:
        return len(self.weights)

    def strain(self, values: Floats) -> Floats:
        """Return ε, (points, n), of local DoFs (owned + ghosts,)."""
        out: Floats = (self._B @ values[self.dofs][..., None]).reshape(len(self), self.size)
        return out

    def force(self, stress: Floats) -> Floats:
        """Return Σ w Bᵀ σ, (owned + ghost DoFs,), of this rank's cells, of stresses (points, n)."""
        weighted = (self.weights[:, None] * stress).reshape(len(self.dofs), 1, self._B.shape[1])
        forces = (weighted @ self._B).ravel()
        return np.bincount(self.dofs.ravel(), weights=forces, minlength=self._local).astype(np.float64)

    def stiffness(self, tangent: Floats) -> Floats:
        """Return Σ w Bᵀ C B, (cells, DoFs, DoFs), of each cell, of tangents (points, n, n)."""
        B = self._B.reshape(len(self), self.size, self._B.shape[2])
        CB = (self.weights[:, None, None] * tangent) @ B
        out: Floats = self._B.transpose(0, 2, 1) @ CB.reshape(self._B.shape)
        return out


def _strain(u: Any) -> Any:
    """Return the engineering Voigt vector of the strain of u as a UFL expression."""
    e, d = ufl.sym(ufl.grad(u)), u.ufl_shape[0]
    shears = ((0, 1),) if d == 2 else ((1, 2), (0, 2), (0, 1))
    return ufl.as_vector([*(e[i, i] for i in range(d)), *(2 * e[i, j] for i, j in shears)])
