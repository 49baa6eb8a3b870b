"""Admissible functions as the image of an affine map, u = Z û + u_g."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from spon.errors import SponError
from spon.sparse import block_inverse

__all__ = ["Constraint", "Latent"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Latent:
    """Latent fields whose image is admissible: u = C (S û) + u_g, Z = C S.

    Args:
        map: (DoFs, latent DoFs) C: the curl of a potential, the identity for other members.
        selection: (latent DoFs, free DoFs) S, whose columns meet in small groups at most.
        gauge: (latent DoFs, n) what was left out of S because other latents reach the same u.
        potentials: (member, mean flows): members of the space (0 if it is not mixed) whose latent DoFs
            are those of their potential, followed by this number of mean flows.
    """

    map: sp.csr_array
    selection: sp.csr_array
    gauge: sp.csr_array
    potentials: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Constraint:
    """u = Z û + u_g: whatever û is, u satisfies the constraint exactly.

    û are the free ones among the DoFs of a *latent* space, which is the space of u itself for
    prescribed and tied DoFs, and that of the stream function or vector potential for
    divergence-free fields.

    Args:
        Z: (DoFs, free DoFs); a row without entries is a fixed DoF.
        shift: (DoFs,) u_g, which carries the boundary data.
        latent: fields behind u; None: those of u itself, and the columns of Z meet in small groups at most.
    """

    Z: sp.csr_array
    shift: Floats
    latent: Latent | None = None

    @classmethod
    def none(cls, dofs: int) -> Constraint:
        """Return the constraint that every function satisfies.

        Args:
            dofs: of the space.
        """
        return cls(sp.csr_array(sp.eye_array(dofs)), np.zeros(dofs))

    @cached_property
    def admissible_latents(self) -> sp.csr_array:
        """(latent DoFs, n) columns that span all latents whose image is admissible."""
        if self.latent is None:
            return self.Z
        return sp.csr_array(sp.hstack([self.latent.selection, self.latent.gauge]))

    @cached_property
    def fixed(self) -> npt.NDArray[np.bool_]:
        """(DoFs,) True where the value is prescribed."""
        out: npt.NDArray[np.bool_] = np.diff(self.Z.indptr) == 0
        return out

    @cached_property
    def from_latent(self) -> sp.csr_array:
        """(DoFs, latent DoFs): the admissible function, without u_g, that any latent DoFs give.

        Drops fixed latents, averages tied ones, and applies C. No gauge is needed.
        """
        S = self.admissible_latents
        out = S @ block_inverse(sp.csr_array(S.T @ S)) @ S.T
        out = sp.csr_array(out if self.latent is None else self.latent.map @ out)
        out.sort_indices()
        return out

    @cached_property
    def _solve(self) -> Callable[[Floats], Floats]:
        gram = sp.csc_array(self.Z.T @ self.Z)
        off = gram - sp.diags_array(gram.diagonal())
        if abs(off).max() <= 1e-14 * gram.diagonal().max():
            scale = 1.0 / gram.diagonal()
            return lambda b: (scale * b.T).T
        return spla.factorized(gram)  # sparse LU; the curl has full column rank

    def free(self, values: Floats) -> Floats:
        """Return the û whose u is nearest to given values in the Euclidean norm.

        Args:
            values: (samples, DoFs).

        Returns:
            (samples, free DoFs): (ZᵀZ)⁻¹ Zᵀ (u − u_g).
        """
        rhs = self.Z.T @ (values - self.shift).T
        out: Floats = np.ascontiguousarray(self._solve(rhs).T)
        return out

    def expand(self, free: Floats) -> Floats:
        """Return u = Z û + u_g, (samples, DoFs), of û (samples, free DoFs)."""
        out: Floats = (self.Z @ free.T).T + self.shift
        return out

    def violation(self, values: Floats) -> Floats:
        """Return max |u − (Z û + u_g)| with the nearest û, for every sample.

        Args:
            values: (samples, DoFs).

        Returns:
            (samples,): 0 for admissible functions, up to round-off.
        """
        difference = values - self.expand(self.free(values))
        out: Floats = np.abs(difference).max(axis=1)
        return out

    def with_shift(self, shift: Floats) -> Constraint:
        """Return the same constraint with other data, such as those of a sample.

        Args:
            shift: (DoFs,) a function that satisfies the constraint with the new data.

        Raises:
            SponError: wrong shape.
        """
        if np.shape(shift) != self.shift.shape:
            raise SponError(f"shift of shape {np.shape(shift)}; allowed: {self.shift.shape}")
        return replace(self, shift=np.asarray(shift, dtype=np.float64))

    def prescribe(self, dofs: npt.NDArray[np.int64], values: Floats) -> Constraint:
        """Fix DoFs in addition, and with each all that are tied to it.

        Args:
            dofs: (n,) numbers.
            values: (n,) at these.

        Raises:
            SponError: a DoF that is a combination of several free ones, or values that contradict the
                constraint or each other.
        """
        entries = np.diff(self.Z.indptr)[dofs]
        if (entries > 1).any():
            bad = int(dofs[entries > 1][0])
            raise SponError(f"cannot prescribe DoF {bad}: it is a combination of {entries.max()} free ones")
        wanted = np.asarray(values, dtype=np.float64) - self.shift[dofs]
        scale = max(1.0, float(np.abs(values).max(initial=0.0)))
        known = entries == 0
        _contradiction(dofs[known], np.abs(wanted[known]), scale)
        dofs, wanted = dofs[~known], wanted[~known]
        first = self.Z.indptr[dofs]
        columns, coefficient = self.Z.indices[first], self.Z.data[first]
        value = np.zeros(self.Z.shape[1])
        value[columns] = wanted / coefficient
        _contradiction(dofs, np.abs(value[columns] * coefficient - wanted), scale)
        kept = np.ones(self.Z.shape[1], dtype=bool)
        kept[columns] = False
        keep = np.flatnonzero(kept)
        latent = self.latent
        if latent is not None:
            latent = replace(latent, selection=sp.csr_array(latent.selection[:, keep]))
        if len(keep) == 0:
            raise SponError("every DoF is prescribed; nothing is left to solve for")
        return replace(
            self, Z=sp.csr_array(self.Z[:, keep]), shift=self.shift + self.Z @ value, latent=latent
        )

    def intersect(self, other: Constraint) -> Constraint:
        """Return the functions that satisfy both.

        Args:
            other: on the same space; one of the two prescribes single DoFs and does no more.

        Raises:
            SponError: another number of DoFs; neither is of that kind; contradicting values.
        """
        if other.Z.shape[0] != self.Z.shape[0]:
            raise SponError(f"constraints on {self.Z.shape[0]} and on {other.Z.shape[0]} DoFs")
        for one, simple in ((self, other), (other, self)):
            if simple.prescribes:
                fixed = np.flatnonzero(simple.fixed)
                return one.prescribe(fixed, simple.shift[fixed])
        raise SponError(
            "cannot combine the constraints: neither only prescribes DoFs; allowed: all faces in one call of "
            "periodic, or the periodic faces of divergence_free in its own call"
        )

    @property
    def prescribes(self) -> bool:
        """Whether each DoF is either prescribed or free by itself."""
        Z = self.Z
        single = bool((np.diff(Z.indptr) <= 1).all()) and bool((np.bincount(Z.indices) == 1).all())
        return single and self.latent is None and bool((Z.data == 1.0).all())


def _contradiction(dofs: npt.NDArray[np.int64], gap: Floats, scale: float) -> None:
    if len(gap) and gap.max() > 1e-12 * scale:
        worst = int(gap.argmax())
        raise SponError(
            f"the prescribed values contradict each other at DoF {dofs[worst]}: they differ by {gap[worst]:g}"
        )
