"""Solutions of two-scale problems: displacements, what the points say, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from dolfinx import fem

from spon.fem.canonical import CanonicalOrder
from spon.fem.output import write
from spon.multiscale.macro_newton import LoadStep
from spon.multiscale.macro_points import MacroPoints
from spon.multiscale.micro_calls import MicroState
from spon.multiscale.voigt import COMPONENTS

__all__ = ["TwoScaleSolution"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TwoScaleSolution:
    """The state of the body at full load.

    Args:
        displacement: `dolfinx.fem.Function`, ghosts up to date.
        reactions: (owned DoFs,) internal less external forces, in DOLFINx's local order: zero at free DoFs.
        micro: strains, stresses, tangents, indicators at the points of this rank, float64.
        points: `MacroPoints` of this rank: where they are.
        order: canonical order of the displacements.
        steps: load steps, in their order.
        calls: batched calls of the microscale on this rank, those of failed load steps included.
        seconds: wall time on this rank: "micro", "assembly", "solve", "total".
    """

    displacement: Any
    reactions: Floats
    micro: MicroState
    points: MacroPoints
    order: CanonicalOrder
    steps: tuple[LoadStep, ...]
    calls: int
    seconds: dict[str, float]

    @property
    def iterations(self) -> int:
        """Newton iterations of the load steps that converged."""
        return sum(step.iterations for step in self.steps)

    @property
    def fallback(self) -> int:
        """Points, of all ranks, that a second model answered in the last iteration."""
        return self.steps[-1].fallback

    def gather(self, values: Floats) -> Floats:
        """Gather values at points on all ranks, in the order of the points' numbers. Collective.

        Args:
            values: (points, …) of this rank, such as `micro.stress`.

        Returns:
            (points of all ranks, …), the same whatever the number of ranks.
        """
        parts = self.order.mesh.comm.allgather((self.points.numbers, values))
        numbers = np.concatenate([part[0] for part in parts])
        out: Floats = np.concatenate([part[1] for part in parts])[np.argsort(numbers)]
        return out

    def strain_at(self, place: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the macroscopic strain at the point next to a place. Collective.

        Args:
            place: (gdim,) coordinates, the same on every rank.

        Returns:
            (n,) strain, for `RVE.solve` or `Surrogate.local`, and (gdim,) where the point is.
        """
        coordinates = self.gather(self.points.coordinates)
        nearest = int(np.linalg.norm(coordinates - np.asarray(place), axis=1).argmin())
        return self.gather(self.micro.strain)[nearest], coordinates[nearest]

    def summary(self) -> list[str]:
        """Return what it took, in lines. Collective."""
        comm = self.order.mesh.comm
        most = {k: max(comm.allgather(v)) for k, v in self.seconds.items()}
        calls, points = max(comm.allgather(self.calls)), self.steps[-1].points
        lines = [
            f"{len(self.steps)} load steps, {self.iterations} iterations, {calls} calls of the microscale at "
            f"{points} points",
            ", ".join(f"{name} {value:.3g} s" for name, value in most.items()),
        ]
        indicators = np.concatenate(comm.allgather(self.micro.indicator))
        if self.fallback:
            lines.append(f"fallback at {self.fallback} of {points} points")
        known = indicators[np.isfinite(indicators)]
        if len(known):
            lines.append(f"largest indicator {known.max():.3g}, mean {known.mean():.3g}")
        if np.isposinf(indicators).any():
            lines.append(
                f"{np.isposinf(indicators).sum()} points outside the trained range, with no estimate"
            )
        return lines

    @cached_property
    def fields(self) -> dict[str, tuple[CanonicalOrder, Floats]]:
        """Displacement `u` and the components of the stress, as `spon.write` takes them. Collective.

        Stresses are projected in L2, cell by cell, to discontinuous polynomials of one degree less than the
        displacement. `indicator` and `fallback` (the share of such points) are there where the micromodel
        tells them.
        """
        out = {"u": (self.order, self.order.gather(self.displacement.x.array))}
        named: dict[str, Floats] = {
            f"stress_{name}": self.micro.stress[:, k] for k, name in enumerate(COMPONENTS[self.points.size])
        }
        projection = _Projection(self.order, self.points)
        comm = self.order.mesh.comm
        if any(comm.allgather(bool(np.isfinite(self.micro.indicator).any()))):
            named["indicator"] = self.micro.indicator
        if self.fallback:
            named["fallback"] = self.micro.fallback.astype(np.float64)
        return out | {name: projection(values) for name, values in named.items()}

    def write(self, path: str | Path) -> None:
        """Write `fields` by `spon.write`. Collective.

        Raises:
            SponError: as `spon.write`.
        """
        write(path, self.fields)


class _Projection:
    """L2 projection of values at quadrature points, cell by cell."""

    def __init__(self, order: CanonicalOrder, points: MacroPoints) -> None:
        q = len(points.reference)
        degree = int(order.space.ufl_element().degree) - 1
        while True:
            space = fem.functionspace(order.mesh.dolfinx, ("DG", degree))
            N = space.element.basix_element.tabulate(0, points.reference)[0, :, :, 0]
            if degree == 0 or N.shape[1] <= q:
                break
            degree -= 1  # the points would not determine it
        weighted = points.weights.reshape(-1, q, 1) * N  # (cells, q, functions)
        self._map = np.linalg.solve(N.T @ weighted, weighted.transpose(0, 2, 1))
        self._order, self._dofs = CanonicalOrder(order.mesh, space), space.dofmap.list[: len(weighted)]

    def __call__(self, values: Floats) -> tuple[CanonicalOrder, Floats]:
        local = np.zeros(len(self._order.local))
        local[self._dofs] = (self._map @ values.reshape(len(self._map), -1, 1))[..., 0]
        return self._order, self._order.gather(local)
