"""Fields on another mesh of the same geometry: super-resolution and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.boundary import canonical_space
from spon.fem.hierarchy import across
from spon.fem.mesh import TaggedMesh
from spon.fem.spaces import CanonicalSpace
from spon.fem.transfer import interpolation

__all__ = ["Resampling"]

Floats = npt.NDArray[np.float64]


class Resampling:
    """Interpolate functions into a space on another mesh, and impose the constraint there again.

    Super-resolution in the sense of SPON (Bouziani & Boullé 2024, arXiv 2410.01065): interpolate between
    the meshes, then impose the constraint of the target. Where meshes and spaces are nested, a
    function that satisfies the constraint stays what it was.

    Args:
        target: mesh of the result.
        target_space: live space on it, or a `CanonicalSpace`.
        source: mesh of the functions.
        source_space: live space on it with as many members and components.
        constraint: of the result, in canonical order; default: none.
        tolerance: how far points of the target may lie outside the source, since curved boundaries are
            cut short differently; as a fraction of the extent of the mesh.

    Attributes:
        matrix: (DoFs of the target, DoFs of the source) of the interpolation; its transpose takes dual
            vectors from the target to the source.

    Raises:
        SponError: spaces on other meshes, spaces that do not fit, points too far outside, a
            constraint on another space.
    """

    def __init__(
        self,
        target: TaggedMesh,
        target_space: Any,
        source: TaggedMesh,
        source_space: Any,
        constraint: Constraint | None = None,
        tolerance: float = 0.05,
    ) -> None:
        to, of = canonical_space(target, target_space), canonical_space(source, source_space)
        if [p.value_size for p in to.parts] != [p.value_size for p in of.parts]:
            raise SponError(f"cannot resample {of.name} as {to.name}: their components differ")
        if constraint is not None and constraint.Z.shape[0] != to.size:
            raise SponError(
                f"a constraint on {constraint.Z.shape[0]} DoFs; allowed: {to.size}, as {to.name} has"
            )
        self.constraint = constraint
        where = across(target, source, tolerance)
        members = zip(_members(to), _members(of), strict=True)
        blocks = [interpolation(one, other, where) for one, other in members]
        self.matrix = sp.csr_array(sp.block_diag(blocks))
        self.matrix.sort_indices()

    def __call__(self, values: Floats, shift: Floats | None = None) -> Floats:
        """Resample functions.

        Args:
            values: (samples, DoFs of the source) in canonical order.
            shift: (samples or 1, DoFs of the target) u_g of each sample; default: that of the constraint.

        Returns:
            (samples, DoFs of the target): Z û + u_g nearest to the interpolated function in the Euclidean
            norm of the DoFs.

        Raises:
            SponError: values of another shape.
        """
        if np.ndim(values) != 2 or np.shape(values)[1] != self.matrix.shape[1]:
            raise SponError(f"values of shape {np.shape(values)}; allowed: (samples, {self.matrix.shape[1]})")
        moved: Floats = np.ascontiguousarray((self.matrix @ np.asarray(values).T).T)
        if self.constraint is None:
            return moved
        data = self.constraint.shift if shift is None else np.asarray(shift)
        homogeneous = self.constraint.with_shift(np.zeros_like(self.constraint.shift))
        return homogeneous.expand(homogeneous.free(moved - data)) + data


def _members(space: CanonicalSpace) -> list[CanonicalSpace]:
    return [space.part(number) for number in range(len(space.parts))]
