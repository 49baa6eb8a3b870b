"""Admissible functions as the image of an affine map, u = Z û + u_g."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

__all__ = ["Constraint"]


@dataclass(frozen=True)
class Constraint:
    """u = Z û + u_g: whatever û is, u satisfies the constraint exactly.

    Args:
        Z: (DoFs, free DoFs); a row without entries is a fixed DoF.
        shift: (DoFs,) u_g, which carries the boundary data.
    """

    Z: sp.csr_array
    shift: npt.NDArray[np.float64]

    @cached_property
    def fixed(self) -> npt.NDArray[np.bool_]:
        """(DoFs,) True where the value is prescribed."""
        out: npt.NDArray[np.bool_] = np.diff(self.Z.indptr) == 0
        return out

    @cached_property
    def pseudo_inverse(self) -> sp.csr_array:
        """(free DoFs, DoFs) with Z⁺ Z = I, for Z with orthogonal columns (dropped or tied rows)."""
        length = self.Z.multiply(self.Z).sum(axis=0)
        return sp.csr_array(sp.diags_array(1.0 / length) @ self.Z.T)

    def violation(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return max |u − (Z Z⁺ (u − u_g) + u_g)| for every sample.

        Args:
            values: (samples, DoFs).

        Returns:
            (samples,): 0 for admissible functions, up to round-off.
        """
        free = values - self.shift
        difference = free - (self.Z @ (self.pseudo_inverse @ free.T)).T
        out: npt.NDArray[np.float64] = np.abs(difference).max(axis=1)
        return out
