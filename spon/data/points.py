"""Points of a file found among those of a mesh, by coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.spatial import cKDTree

from spon.errors import SponError

__all__ = ["Match", "match"]

_RELATIVE = 1e-5  # of the extent of the mesh: what files in single precision keep

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """A way from the order of a file to that of a mesh.

    Args:
        numbers: (values in the file,) number in the mesh of each; None: the same order.
        size: values on the mesh.
        note: what was matched, in words; empty for the same order.
    """

    numbers: Integers | None
    size: int
    note: str = ""

    def apply(self, values: npt.NDArray[Any], label: str) -> npt.NDArray[Any]:
        """Return values in the order of the mesh.

        Args:
            values: (values in the file[, components]).
            label: what they are, for messages.

        Raises:
            SponError: several values at one node that differ.
        """
        if self.numbers is None:
            return values
        if values.dtype.kind not in "fiub" or len(values) != len(self.numbers):
            raise SponError(
                f"{label}: {len(values)} values of type {values.dtype}; allowed: "
                f"{len(self.numbers)} real numbers"
            )
        n = len(self.numbers)
        share = 1.0 / np.bincount(self.numbers, minlength=self.size)[self.numbers]
        mean = sp.csr_array((share, (self.numbers, np.arange(n))), shape=(self.size, n))
        flat = np.asarray(values, dtype=np.float64).reshape(n, -1)
        out = mean @ flat
        gap = np.abs(flat - out[self.numbers]).max(initial=0.0)
        if gap > 1e-6 * np.abs(flat).max(initial=0.0):
            raise SponError(
                f"{label} has several values at one node of the mesh, {gap:.3g} from their mean; allowed: "
                "continuous functions, or values in cells"
            )
        return out.reshape(self.size, *values.shape[1:])


def match(found: Floats, wanted: Floats, file: str, mesh: str, what: str) -> Match:
    """Match points.

    Args:
        found: (n, gdim) in the file.
        wanted: (m, gdim) in the mesh.
        file: name, for messages.
        mesh: name, for messages.
        what: "node" or "cell".

    Raises:
        SponError: points of another dimension; a point without a partner, with the distance to the nearest.
    """
    if found.shape[1] != wanted.shape[1]:
        raise SponError(f"{file} is {found.shape[1]}-D, {mesh} {wanted.shape[1]}-D")
    extent = float(np.ptp(wanted, axis=0).max())
    allowed = _RELATIVE * extent
    if found.shape == wanted.shape and np.abs(found - wanted).max() <= allowed:
        return Match(None, len(wanted))
    distance, numbers = cKDTree(wanted).query(found)
    _refuse(distance, found, f"{what}s of {file}", mesh, allowed)
    back, _ = cKDTree(found).query(wanted)
    _refuse(back, wanted, f"{what}s of {mesh}", file, allowed)
    missing = np.bincount(numbers, minlength=len(wanted)) == 0
    if missing.any():
        at = ", ".join(f"{c:g}" for c in wanted[np.argmax(missing)])
        raise SponError(
            f"{np.count_nonzero(missing)} {what}s of {mesh} share their place with another one, the first at "
            f"({at}); allowed: {file} in the order of {mesh}"
        )
    moved = f", {distance.max():.1g} apart at most" if distance.max() > 1e-12 * extent else ""
    note = f"{what}s are in another order than in {mesh}; matched by coordinates{moved}"
    return Match(numbers.astype(np.int64), len(wanted), note)


def _refuse(distance: Floats, points: Floats, what: str, other: str, allowed: float) -> None:
    worst = int(distance.argmax())
    if distance[worst] > allowed:
        at = ", ".join(f"{c:g}" for c in points[worst])
        count = np.count_nonzero(distance > allowed)
        raise SponError(
            f"{count} of {len(points)} {what}: no partner in {other}; the worst, at ({at}), is "
            f"{distance[worst]:.3g} from the nearest; allowed: {allowed:.1g}"
        )
