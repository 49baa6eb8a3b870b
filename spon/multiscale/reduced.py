"""The cell reduced to a few modes and a few quadrature points, still solved for equilibrium."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.calibration import covering_factor
from spon.multiscale.cubature import Cubature, find_cubature
from spon.multiscale.loads import latin_hypercube
from spon.multiscale.local_fields import LocalFields
from spon.multiscale.micromodel import Response
from spon.multiscale.modes import ENERGY, find_modes
from spon.multiscale.newton import Minimum, minimise
from spon.multiscale.potential import ReducedPotential
from spon.multiscale.snapshots import Snapshots
from spon.multiscale.surrogate import Surrogate, trained_box
from spon.multiscale.voigt import deviatoric_square

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["Estimate", "ReducedRVE", "reduce_rve"]


_AT_REST = 1e-9
_MOST = 32  # modes by default: the cost of a Hessian grows with their third power
_FURTHER = 0.5  # modes for the control, a share of those that are minimised over
_CONTROL_POINTS = 10  # for each of all these modes
_FITTED = 500  # equilibria that the first amplitudes are fitted to


@dataclass(frozen=True)
class Estimate:
    """Estimated relative errors, (batch,) each.

    Args:
        quadrature: of the macroscopic stress, by the reduced quadrature.
        truncation: a measure of that by the modes left out; `Calibration` scales it.
        mismatch: of the local stress: ‖σ(ε) − Πσ(ε)‖ / ‖σ(ε)‖ in L2, Π onto the modes in equilibrium.
    """

    quadrature: Tensor
    truncation: Tensor
    mismatch: Tensor


class ReducedRVE(Surrogate):
    """Minimise the potential of the cell over the amplitudes of its modes, with a reduced quadrature.

    The stress is that of the minimum, the tangent symmetric and consistent by condensation.

    The indicator is quadrature + factor · truncation. Both come from a second look at the solution, with
    further modes and the points that these need (`control`): the residual r there gives a correction of the
    stress, S · r with the sensitivity S of the amplitudes, for the quadrature; the residual of the further
    modes alone, squared (they are orthonormal in energy), over the work σ · E is what they would change of
    the energy. `calibrate` finds the factor on finite-element solutions.

    Args:
        fields: cell with r modes, and any further ones for the control.
        rank: r.
        cubature: reduced quadrature for the first r modes.
        control: reduced quadrature for all modes of `fields`.
        guess: (3 n, r) coefficients of the amplitudes to start from, for `features`.
        box: (2, n) trained strains.
        factor: of the truncation.
        calibrated: number of load cases that the factor rests on; 0: it is a guess.
        tolerance: of `minimise`; its square is about the error of the stress, itself that of the tangent.
        limit: largest number of Newton steps for a strain.
    """

    settings: ClassVar[tuple[str, ...]] = ("rank", "energy", "points", "seed")
    guess: Tensor

    def __init__(
        self,
        fields: LocalFields,
        rank: int,
        cubature: Cubature,
        control: Cubature,
        guess: Tensor,
        box: Tensor,
        factor: float = 1.0,
        tolerance: float = 1e-6,
        limit: int = 30,
        calibrated: int = 0,
    ) -> None:
        super().__init__(box)
        self.fields, self.rank, self.cubature, self.control = fields, rank, cubature, control
        self.factor, self.tolerance, self.limit = factor, tolerance, limit
        self.calibrated = calibrated
        self.register_buffer("guess", guess)
        self.potential = fields.leading(rank).potential(cubature.points, cubature.weights)
        self.second = fields.potential(control.points, control.weights)

    @classmethod
    def fit(
        cls, rve: RVE, snapshots: Snapshots, held_back: Snapshots | None = None, **settings: Any
    ) -> ReducedRVE:
        """Make a reduced cell by `reduce_rve`."""
        return reduce_rve(rve, snapshots, held_back=held_back, **settings)

    def minimum(self, strain: Tensor) -> Minimum:
        """Return amplitudes and response at strains (batch, n)."""
        return minimise(self.potential, strain, features(strain) @ self.guess, self.tolerance, self.limit)

    def respond_within(self, strain: Tensor) -> Response:
        """Return the response to strains (batch, n)."""
        found = self.minimum(strain)
        quadrature, truncation = self._control(self.second, strain, found)
        indicator = quadrature + self.factor * truncation
        return Response(found.stress, found.tangent, indicator, ~found.converged)

    @torch.no_grad()
    def local(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return strains and stresses at the points of the cell, (batch, points, n) each.

        Raises:
            SponError: there is no answer to a strain.
        """
        found = self._answers(self.on_device(strain))
        strains = self.fields.strains(strain, self._padded(found.amplitudes))
        return strains, self.fields.stresses(strains)

    @torch.no_grad()
    def estimate(self, strain: Tensor) -> Estimate:
        """Return estimated errors with the full quadrature: slow, some 100 µs and more for each strain.

        Args:
            strain: (batch, n) macroscopic strains, float64.

        Raises:
            SponError: there is no answer to a strain.
        """
        strain = self.on_device(strain)
        whole = self.fields.potential()
        parts = []
        for part in strain.split(20):
            found = self._answers(part)
            quadrature, truncation = self._control(whole, part, found)
            stresses = self.fields.stresses(self.fields.strains(part, self._padded(found.amplitudes)))
            rest = _norm(self.fields, stresses - self.fields.in_equilibrium(stresses))
            parts.append((quadrature, truncation, _ratio(rest, _norm(self.fields, stresses))))
        return Estimate(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def calibrate(self, snapshots: Snapshots, covered: float = 0.95) -> None:
        """Choose the factor so that this share of load cases has an error below the indicator.

        Args:
            snapshots: solved load cases that nothing else was made of; 19 and more are enough for 0.95, fewer
                rest on an assumption (`covering_factor`).
            covered: share, between 0 and 1.

        Raises:
            SponError: no further modes are there to see the truncation with; no answer to a strain.
        """
        if self.fields.rank == self.rank > 0:
            raise SponError(
                f"{self.rank} modes are all that the snapshots span, so that their truncation cannot be "
                "estimated; allowed: fewer modes, or more snapshots"
            )
        strain = self.on_device(snapshots.strains)
        found = self._answers(strain)
        quadrature, truncation = self._control(self.second, strain, found)
        exact = snapshots.macro_stresses.to(strain.device)
        error = _ratio((found.stress - exact).norm(dim=1), exact.norm(dim=1))
        needed = _ratio((error - quadrature).clamp_min(0), truncation)
        self.factor, self.calibrated = covering_factor(needed, covered), len(needed)

    def content(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        return {
            "fields": self.fields.content(),
            "rank": self.rank,
            "cubature": _packed(self.cubature),
            "control": _packed(self.control),
            "guess": self.guess.cpu(),
            "box": self.box.cpu(),
            "factor": self.factor,
            "tolerance": self.tolerance,
            "limit": self.limit,
            "calibrated": self.calibrated,
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> ReducedRVE:
        """Make what `content` described."""
        names = ("rank", "guess", "box", "factor", "tolerance", "limit")
        return cls(
            fields=LocalFields.from_content(content["fields"]),
            cubature=Cubature(**content["cubature"]),
            control=Cubature(**content["control"]),
            **{name: content[name] for name in names},
            calibrated=content.get("calibrated", 0),  # not in older files
        )

    def _answers(self, strain: Tensor) -> Minimum:
        found = self.minimum(strain)
        if not found.converged.all():
            first = strain[~found.converged][0].tolist()
            raise SponError(
                f"the reduced cell has no equilibrium at the strain {first}; allowed: smaller ones"
            )
        return found

    def _padded(self, amplitudes: Tensor) -> Tensor:
        return _pad(amplitudes, self.fields.rank)

    def _control(self, potential: ReducedPotential, strain: Tensor, found: Minimum) -> tuple[Tensor, Tensor]:
        """Return the relative correction of the stress, and the relative energy of the further modes."""
        n = self.strain_size
        force = potential.gradient(torch.cat([strain, self._padded(found.amplitudes)], 1))
        within = (found.sensitivity.transpose(1, 2) @ force[:, n : n + self.rank, None]).squeeze(2)
        correction = force[:, :n] + within - found.stress
        further = force[:, n + self.rank :].square().sum(1) * self.fields.volume
        least = _AT_REST * self.box.abs().max()  # strain where relative errors end: all else is round-off
        stiffness = found.tangent.flatten(1).norm(dim=1)
        size = found.stress.norm(dim=1).clamp_min(least * stiffness)
        work = (found.stress * strain).sum(1).clamp_min(least**2 * stiffness)
        return _ratio(correction.norm(dim=1), size), _ratio(further, work)


def reduce_rve(
    rve: RVE,
    snapshots: Snapshots,
    rank: int | None = None,
    energy: float | None = None,
    points: int | None = None,
    held_back: Snapshots | None = None,
    states: int = 60,
    seed: int = 0,
) -> ReducedRVE:
    """Make a reduced cell of solved load cases.

    Args:
        rve: cell.
        snapshots: load cases to learn from.
        rank: number of modes r.
        energy: where `rank` is None: the share of the energy of the snapshots and of their sensitivities that
            may be left out. None: 1e-5, and 32 modes at most.
        points: of the reduced quadrature; None: 8 r, in space 10 r.
        held_back: load cases to calibrate the indicator on; None: it stays without calibration.
        states: strains in the trained box at which the reduced cell is solved with full quadrature, for
            the reduced quadrature. No finite-element solution is needed.
        seed: of these strains.

    Raises:
        SponError: see `find_modes`, `find_cubature`.
    """
    share, most = (ENERGY, _MOST) if energy is None else (energy, None)
    modes = find_modes(rve, snapshots, rank, share, further=_FURTHER, most=most)
    r = modes.rank
    fields = LocalFields.from_modes(rve, modes)
    box = trained_box(snapshots.strains)
    strains = _filling(box, states, seed)
    leading = fields.leading(r)
    found = minimise(leading.potential(), strains, torch.zeros(states, r, dtype=torch.float64))
    solved = found.converged
    if not solved.any():
        raise SponError(f"no equilibrium of {r} modes at {states} strains; allowed: laws that are convex")
    strains, amplitudes = strains[solved], found.amplitudes[solved]
    cubature = find_cubature(leading, strains, amplitudes, points)
    padded = _pad(amplitudes, fields.rank)
    more_points = _CONTROL_POINTS * max(fields.rank, 2)
    control = find_cubature(fields, strains[::2], padded[::2], more_points, tangents=False)
    guess = _fitted(leading.potential(cubature.points, cubature.weights), box, r, seed)
    reduced = ReducedRVE(fields, r, cubature, control, guess, box)
    if held_back is not None:
        reduced.calibrate(held_back)
    return reduced


def features(strain: Tensor) -> Tensor:
    """Return what the first amplitudes are linear in, E, E s, E s² with s = ‖dev E‖, (batch, 3 n).

    Softening depends on the size of the deviator, and along a straight path these are a cubic polynomial.
    """
    size = deviatoric_square(strain).clamp_min(0).sqrt()[:, None]
    return torch.cat([strain, size * strain, size**2 * strain], 1)


def _filling(box: Tensor, count: int, seed: int) -> Tensor:
    """Return strains that fill a box, (count, n)."""
    unit = torch.as_tensor(latin_hypercube(count, box.shape[1], 0.5, seed)) + 0.5
    return box[0] + (box[1] - box[0]) * unit


def _fitted(potential: ReducedPotential, box: Tensor, rank: int, seed: int) -> Tensor:
    """Return coefficients of the first amplitudes, fitted to equilibria of the reduced cell itself."""
    strains = _filling(box, _FITTED, seed)
    found = minimise(potential, strains, strains.new_zeros(_FITTED, rank))
    solved = found.converged
    # torch.linalg.lstsq gives other bits in each process, or does not take an empty right-hand side
    left, right = features(strains[solved]).numpy(), found.amplitudes[solved].numpy()
    return torch.from_numpy(np.linalg.lstsq(left, right, rcond=None)[0])


def _pad(amplitudes: Tensor, rank: int) -> Tensor:
    """Return amplitudes with zeros for further modes."""
    return torch.nn.functional.pad(amplitudes, (0, rank - amplitudes.shape[1]))


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, and 0 where both vanish."""
    return part / whole.clamp_min(torch.finfo(whole.dtype).tiny)


def _norm(fields: LocalFields, stresses: Tensor) -> Tensor:
    return torch.einsum("p,bpn->b", fields.weights, stresses**2).sqrt()


def _packed(cubature: Cubature) -> dict[str, Any]:
    return {"points": cubature.points, "weights": cubature.weights, "residual": cubature.residual}
