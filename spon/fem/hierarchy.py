"""Levels for multigrid processors: nested meshes, independent coarser meshes, or algebraic ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.errors import SponError
from spon.fem.location import Locator
from spon.fem.mesh import TaggedMesh
from spon.fem.refinement import refine
from spon.fem.spaces import CanonicalSpace, lagrange_element
from spon.fem.transfer import Location, interpolation

__all__ = ["Hierarchy"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Where = Callable[[Integers, Floats], Location]


@dataclass(frozen=True)
class Hierarchy:
    """Meshes of one geometry, finest first, and possibly algebraic levels below them.

    Make one from a coarse mesh with `uniform`, from one fine mesh with `algebraic`, or from several
    independent meshes with `independent`; a single mesh without coarser levels is `uniform(mesh, 0)`.

    Attributes:
        meshes: the levels; `meshes[0]` is the one that problems are solved on.
        transfers: `transfers[l]` takes (cells, reference points) of mesh l to places on mesh l + 1.
        aggregations: algebraic levels below the coarsest mesh.
    """

    meshes: tuple[TaggedMesh, ...]
    transfers: tuple[Where, ...] = ()
    aggregations: int = 0

    @classmethod
    def uniform(cls, coarse: TaggedMesh, refinements: int) -> Hierarchy:
        """Refine a coarse mesh a number of times. Collective.

        Args:
            coarse: mesh that resolves the geometry, of any kind of cell.
            refinements: how often, ≥ 0.

        Raises:
            SponError: a negative number.
        """
        if refinements < 0:
            raise SponError(f"refinements = {refinements}; allowed: 0, 1, 2, …")
        hierarchy = cls((coarse,))
        for _ in range(refinements):
            hierarchy = hierarchy.refined()
        return hierarchy

    @classmethod
    def independent(cls, meshes: tuple[TaggedMesh, ...], tolerance: float = 0.05) -> Hierarchy:
        """Take meshes of the same geometry that were made independently of each other.

        Args:
            meshes: finest first.
            tolerance: how far points of a finer mesh may lie outside the next coarser one, since
                coarse cells cut curved boundaries short; as a fraction of the extent of the mesh.

        Raises:
            SponError: meshes of different dimensions, a coarser mesh with more nodes, or a point of a
                finer mesh that is too far outside the coarser one.
        """
        if not meshes:
            raise SponError("no mesh; allowed: one or more")
        for fine, coarse in pairwise(meshes):
            if fine.arrays.gdim != coarse.arrays.gdim:
                raise SponError(
                    f"{fine.arrays.source} is {fine.arrays.gdim}-D, {coarse.arrays.source} "
                    f"{coarse.arrays.gdim}-D; allowed: meshes of one geometry"
                )
            if len(fine.arrays.points) < len(coarse.arrays.points):
                raise SponError(
                    f"{coarse.arrays.source} ({len(coarse.arrays.points)} nodes) follows "
                    f"{fine.arrays.source} ({len(fine.arrays.points)}); allowed: finest first"
                )
        transfers = (across(fine, coarse, tolerance) for fine, coarse in pairwise(meshes))
        return cls(tuple(meshes), tuple(transfers))

    @classmethod
    def algebraic(cls, fine: TaggedMesh, levels: int) -> Hierarchy:
        """Coarsen one mesh by smoothed aggregation, when there is no coarser mesh of the geometry.

        Args:
            fine: mesh that problems are solved on.
            levels: coarser levels, ≥ 0; see `spon.fem.aggregation`.

        Raises:
            SponError: a negative number.
        """
        if levels < 0:
            raise SponError(f"levels = {levels}; allowed: 0, 1, 2, …")
        return cls((fine,), (), levels)

    def coarsened(self, levels: int) -> Hierarchy:
        """Return the hierarchy with further algebraic levels below the coarsest."""
        if levels < 0:
            raise SponError(f"levels = {levels}; allowed: 0, 1, 2, …")
        return replace(self, aggregations=self.aggregations + levels)

    def refined(self) -> Hierarchy:
        """Return the hierarchy with one finer level. Collective."""
        arrays, nesting = refine(self.finest.arrays)
        finest = TaggedMesh(arrays, self.finest.comm)

        def parents(cells: Integers, X: Floats) -> Location:
            return Location(*nesting.locate(cells, X))

        return replace(self, meshes=(finest, *self.meshes), transfers=(parents, *self.transfers))

    def prolongation(self, number: int, degree: int = 1, coarse_degree: int = 1) -> sp.csr_array:
        """Return the interpolation of functions of mesh `number` + 1 on mesh `number`.

        Exact for nested meshes: every coarse function is a fine one.

        Args:
            number: of the finer mesh, from 0.
            degree: of the scalar Lagrange space on the finer mesh.
            coarse_degree: on the coarser mesh.

        Returns:
            (nodes, nodes of the coarser mesh) in canonical order.
        """
        fine, coarse = self.meshes[number], self.meshes[number + 1]
        target = CanonicalSpace(fine, lagrange_element(fine.arrays.cell_type, degree))
        source = CanonicalSpace(coarse, lagrange_element(coarse.arrays.cell_type, coarse_degree))
        return interpolation(target, source, self.transfers[number])

    @property
    def finest(self) -> TaggedMesh:
        """The mesh that problems are solved on."""
        return self.meshes[0]


def across(fine: TaggedMesh, coarse: TaggedMesh, tolerance: float) -> Where:
    """Return the map from places on one mesh to places on another one of the same geometry.

    Args:
        fine: where points are given.
        coarse: where they are looked for.
        tolerance: of points outside, as a fraction of the extent of the mesh.
    """
    locator = Locator(coarse.geometry)
    distance = tolerance * float(np.ptp(coarse.arrays.points, axis=0).max())

    def place(cells: Integers, X: Floats) -> Location:
        return locator.find(fine.geometry.points(cells, X), distance, outside="nearest")

    return place
