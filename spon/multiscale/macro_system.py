"""Forces and linear systems of a macroscopic problem, in PETSc."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from dolfinx import fem, la
from mpi4py import MPI

from spon.constraint import Constraint
from spon.fem.canonical import CanonicalOrder
from spon.multiscale.macro_linear import MacroLinear
from spon.multiscale.macro_points import MacroPoints

__all__ = ["MacroSystem"]

Floats = npt.NDArray[np.float64]


class MacroSystem:
    """The balance of forces on the admissible displacements, and Newton's steps. Collective.

    Args:
        order: canonical order of the space.
        constraint: on the space.
        points: of this rank.
        options: as for `ConstrainedSolver`.

    Attributes:
        assembly_seconds: that forces and matrices took on this rank.
        solve_seconds: that linear systems took.

    Raises:
        SponError: options that PETSc refuses.
    """

    def __init__(
        self,
        order: CanonicalOrder,
        constraint: Constraint,
        points: MacroPoints,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.order, self.constraint, self.points, self.comm = order, constraint, points, order.mesh.comm
        self.assembly_seconds = self.solve_seconds = 0.0
        self._linear = MacroLinear(order, constraint, points, options)
        self._function = fem.Function(order.space)

    def strain(self, values: Floats) -> Floats:
        """Return strains (points, n) of displacements (owned DoFs,), ghosts brought up to date."""
        begun = time.perf_counter()
        self._function.x.array[: self.order.owned] = values
        self._function.x.scatter_forward()
        out = self.points.strain(self._function.x.array)
        self.assembly_seconds += time.perf_counter() - begun
        return out

    def internal(self, stress: Floats) -> Floats:
        """Return the internal forces, (owned DoFs,), of stresses (points, n)."""
        begun = time.perf_counter()
        self._function.x.array[:] = self.points.force(stress)
        self._function.x.scatter_reverse(la.InsertMode.add)
        out: Floats = self._function.x.array[: self.order.owned].copy()
        self.assembly_seconds += time.perf_counter() - begun
        return out

    def size(self, forces: Floats) -> float:
        """Return the Euclidean norm of forces (owned DoFs,)."""
        return float(np.sqrt(self.dot(forces, forces)))

    def dot(self, one: Floats, other: Floats) -> float:
        """Return the product of two vectors (owned DoFs,)."""
        return float(self.comm.allreduce(float(one @ other), MPI.SUM))

    def unbalanced(self, forces: Floats) -> float:
        """Return ‖Zᵀ F‖ of forces (owned DoFs,): what no reaction takes."""
        return self._linear.unbalanced(forces)

    def step(self, tangent: Floats, forces: Floats, change: Floats) -> Floats:
        """Return the δu, (owned DoFs,), with Zᵀ (F + K δu) = 0 and δu = Z δû + δu_g.

        Args:
            tangent: (points, n, n).
            forces: (owned DoFs,) F.
            change: (DoFs,) δu_g, in canonical order.

        Raises:
            SponError: on all ranks, the linear solver did not converge.
        """
        begun = time.perf_counter()
        solver = self._linear.load(tangent, forces, change)
        between = time.perf_counter()
        self.assembly_seconds += between - begun
        out = solver.solve_loaded()
        self.solve_seconds += time.perf_counter() - between
        return out

    def destroy(self) -> None:
        """Free the PETSc objects. Collective."""
        self._linear.destroy()
