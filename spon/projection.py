"""Projections of coefficient vectors: onto mean zero, and onto divergence-free fields."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from scipy.sparse.csgraph import connected_components

from spon.errors import SponError

__all__ = ["DivergenceFree", "ZeroMean"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ZeroMean:
    """p ↦ p − (1ᵀMp)/(1ᵀM1) 1: the part of p that is orthogonal to constants in L2.

    Args:
        weights: (DoFs,) M 1, the integrals of the basis functions; zero for other members of a
            mixed space.
        constant: (DoFs,) coefficients of the function 1; zero for other members.

    Raises:
        SponError: arrays that do not fit, or a domain without volume.
    """

    weights: Floats
    constant: Floats

    def __post_init__(self) -> None:
        if np.ndim(self.weights) != 1 or np.shape(self.weights) != np.shape(self.constant):
            shapes = f"{np.shape(self.weights)} and {np.shape(self.constant)}"
            raise SponError(f"weights and constant of shapes {shapes}; allowed: twice (DoFs,)")
        if not self.volume > 0:
            raise SponError(f"the volume of the domain is {self.volume:g}; allowed: above 0")

    @classmethod
    def from_mass(cls, mass: sp.csr_array) -> ZeroMean:
        """Return the projection for a basis whose sum is 1, such as Lagrange.

        Args:
            mass: (DoFs, DoFs) M.
        """
        ones = np.ones(mass.shape[0])
        return cls(mass @ ones, ones)

    @property
    def volume(self) -> float:
        """1ᵀM1."""
        return float(self.weights @ self.constant)

    def mean(self, values: Floats) -> Floats:
        """Return the mean over the domain of functions (…, DoFs), as (…,)."""
        return np.asarray(values @ self.weights / self.volume)

    def __call__(self, values: Floats) -> Floats:
        """Subtract its mean from each function, (…, DoFs)."""
        out: Floats = values - np.asarray(self.mean(values))[..., None] * self.constant
        return out


@dataclass(frozen=True, eq=False)
class DivergenceFree:
    """Project onto the discretely divergence-free functions, orthogonally in L2.

    Of all v = Z v̂ with B v = 0 the nearest to u solves, with one sparse factorisation for all u,

        [ZᵀMZ  (BZ)ᵀ] [v̂]   [ZᵀMu]
        [BZ       0 ] [λ] = [  0  ].

    Where no flow crosses the boundary of a region, B Z does not see the constant pressure there, and
    one of the equations of the region follows from the others: it is left out.

    Args:
        mass: (DoFs, DoFs) M of u.
        divergence: (pressures, DoFs) B_ij = (q_i, div φ_j), of a stable pair.
        Z: (DoFs, free DoFs) of a homogeneous constraint.
        constant: (pressures,) coefficients of the pressure 1.

    Raises:
        SponError: sizes that do not fit; at the first call: a pair that is not stable.
    """

    mass: sp.csr_array
    divergence: sp.csr_array
    Z: sp.csr_array
    constant: Floats

    def __post_init__(self) -> None:
        n, m = self.mass.shape[0], self.divergence.shape[0]
        found = (self.mass.shape, self.divergence.shape, self.Z.shape[:1], np.shape(self.constant))
        allowed = ((n, n), (m, n), (n,), (m,))
        if found != allowed:
            raise SponError(f"mass, divergence, Z and constant of shapes {found}; allowed: {allowed}")

    def __call__(self, values: Floats) -> Floats:
        """Return the projections of functions (samples, DoFs), or of one (DoFs,)."""
        batch = np.atleast_2d(np.asarray(values, dtype=np.float64))
        return self._nearest(batch, np.zeros(batch.shape[1])).reshape(np.shape(values))

    def lift(self, shift: Floats) -> Floats:
        """Return the smallest divergence-free u = Z û + u_g, such as the flow that boundary data drive.

        Args:
            shift: (DoFs,) u_g with the boundary data, not divergence-free.

        Raises:
            SponError: data whose net flux into a region is not zero.
        """
        shift = np.asarray(shift, dtype=np.float64)
        flux = np.abs(self._kernel @ (self.divergence @ shift)).max(initial=0.0)
        size = (abs(self._kernel) @ (abs(self.divergence) @ np.abs(shift))).max(initial=0.0)
        if flux > 1e-10 * size:
            raise SponError(f"the prescribed flow has the net flux {flux:.3g} into a region; allowed: 0")
        return self._nearest(np.zeros((1, len(shift))), shift)[0]

    def violation(self, values: Floats) -> Floats:
        """Return max |B u| relative to |B| |u|, for functions (samples, DoFs), as (samples,)."""
        size = (abs(self.divergence) @ np.abs(values.T)).max(axis=0, initial=np.finfo(float).tiny)
        out: Floats = np.abs(self.divergence @ values.T).max(axis=0, initial=0.0) / size
        return out

    def _nearest(self, values: Floats, shift: Floats) -> Floats:
        kept, n = self._kept, self.Z.shape[1]
        force = self.Z.T @ (self.mass @ (values - shift).T)
        source = np.repeat(-(self.divergence @ shift)[kept, None], len(values), axis=1)
        rhs = np.concatenate([force, source])
        factor, matrix = self._system
        x = factor.solve(rhs)
        x += factor.solve(rhs - matrix @ x)
        out: Floats = np.ascontiguousarray((self.Z @ x[:n]).T + shift)
        return out

    @cached_property
    def _reduced(self) -> sp.csr_array:
        out = sp.csr_array(self.divergence @ self.Z)
        scale = float(abs(out).max()) if out.nnz else 0.0
        out.data[np.abs(out.data) <= 1e-13 * scale] = 0.0
        out.eliminate_zeros()
        return out

    @cached_property
    def _kernel(self) -> sp.csr_array:
        """(regions without flow through their boundary, pressures), 1 on each region."""
        B = self._reduced
        region = connected_components(sp.csr_array(abs(B) @ abs(B).T), directed=False)[1]
        entries = (self.constant, (region, np.arange(len(region))))
        constants = sp.csr_array(entries, shape=(region.max(initial=-1) + 1, len(region)))
        seen = abs(constants @ B).max(axis=1).toarray().ravel()
        size = (abs(constants) @ abs(B)).max(axis=1).toarray().ravel()
        some = abs(constants).max(axis=1).toarray().ravel() > 0
        return sp.csr_array(constants[np.flatnonzero(some & (seen <= 1e-10 * size))])

    @cached_property
    def _kept(self) -> Integers:
        """Numbers of the pressures whose equations are independent."""
        pinned = abs(self._kernel).argmax(axis=1) if self._kernel.shape[0] else []
        unseen = np.flatnonzero(np.diff(self._reduced.indptr) == 0)
        return np.setdiff1d(np.arange(self.divergence.shape[0]), np.union1d(pinned, unseen))

    @cached_property
    def _system(self) -> tuple[Any, sp.csc_array]:
        B = self._reduced[self._kept]
        matrix = sp.csc_array(sp.block_array([[self.Z.T @ self.mass @ self.Z, B.T], [B, None]]))
        probe = matrix @ np.ones(matrix.shape[0])
        try:
            factor = spla.splu(matrix)
            gap = np.abs(factor.solve(probe) - 1.0).max()
        except RuntimeError:
            gap = np.inf
        if not gap <= 1e-6:
            raise SponError(
                "the pair of velocity and pressure is not stable here: the saddle-point matrix is singular; "
                "allowed: such as P2 with P1, or RT_k with DG_(k-1)"
            )
        return factor, matrix

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the factorisation, which cannot be copied."""
        return {name: getattr(self, name) for name in ("mass", "divergence", "Z", "constant")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
