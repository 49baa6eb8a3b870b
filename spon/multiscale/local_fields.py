"""Strains and stresses at the points of a cell, from macroscopic strain and mode amplitudes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spon.multiscale.materials import Material, describe_material, make_material
from spon.multiscale.modes import Modes
from spon.multiscale.potential import ReducedPotential

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["LocalFields"]

_TENSORS = ("weights", "phases", "points", "strain_modes", "stress_modes")


class LocalFields(nn.Module):
    """A cell as far as modes see it: what surrogates need of a RVE, without its mesh.

    Args:
        names: of the phases.
        laws: of the phases.
        weights: (points,) of the quadrature; their sum is the volume.
        phases: (points,) int64, place in `names`.
        points: (points, d) coordinates.
        strain_modes: (points, n, r).
        stress_modes: (points, n, s), orthonormal in L2, in equilibrium.
    """

    weights: Tensor
    phases: Tensor
    points: Tensor
    strain_modes: Tensor
    stress_modes: Tensor

    def __init__(
        self,
        names: Sequence[str],
        laws: Sequence[Material],
        weights: Tensor,
        phases: Tensor,
        points: Tensor,
        strain_modes: Tensor,
        stress_modes: Tensor,
    ) -> None:
        super().__init__()
        self.names, self.laws = tuple(names), tuple(laws)
        for name, value in zip(_TENSORS, (weights, phases, points, strain_modes, stress_modes), strict=True):
            self.register_buffer(name, value)

    @classmethod
    def from_modes(cls, rve: RVE, modes: Modes) -> LocalFields:
        """Take what is needed of a cell and its modes."""
        return cls.from_strains(rve, torch.as_tensor(modes.strains), torch.as_tensor(modes.stresses))

    @classmethod
    def from_strains(cls, rve: RVE, strains: Tensor, stresses: Tensor) -> LocalFields:
        """Take what is needed of a cell, with strain modes (points, n, r) and stress modes (points, n, s)."""
        weights, phases, points = map(torch.as_tensor, (rve.weights, rve.phases, rve.points))
        return cls(rve.names, rve.materials, weights, phases, points, strains, stresses)

    def leading(self, rank: int) -> LocalFields:
        """Return the same cell with the first strain modes alone."""
        values = (self.weights, self.phases, self.points, self.strain_modes[:, :, :rank], self.stress_modes)
        return LocalFields(self.names, self.laws, *values)

    def leverage(self) -> Tensor:
        """Return how much each point counts where amplitudes are fitted to stresses, (points,), sum 1.

        Half the share of the volume, half the share of the squared rows of an orthonormal basis of what the
        modes span, stress modes and strain modes times the laws' tangents at zero strain, in L2: points drawn
        so keep least-squares problems well posed (Drineas, Mahoney & Muthukrishnan 2008,
        doi:10.1137/07070471X), points drawn by volume alone miss small regions of high stress.
        """
        stresses, zero = torch.empty_like(self.strain_modes), self.weights.new_zeros(1, self.strain_size)
        for phase, law in enumerate(self.laws):
            here = self.phases == phase
            stresses[here] = law.tangent(zero)[0] @ self.strain_modes[here]
        modes = torch.cat([self.stress_modes, stresses], 2) * self.weights[:, None, None].sqrt()
        basis = torch.linalg.qr(modes.flatten(0, 1))[0].reshape((*modes.shape[:2], -1))
        rows = basis.square().sum((1, 2))
        return 0.5 * self.weights / self.volume + 0.5 * rows / rows.sum()

    def at(self, points: Tensor, weights: Tensor) -> LocalFields:
        """Return the same modes at some points (m,), which may repeat, with other weights (m,)."""
        rest = (getattr(self, name)[points] for name in _TENSORS[1:])
        return LocalFields(self.names, self.laws, weights, *rest)

    @property
    def strain_size(self) -> int:
        """n, the components of a strain."""
        return self.strain_modes.shape[1]

    @property
    def rank(self) -> int:
        """r, the number of strain modes."""
        return self.strain_modes.shape[2]

    @property
    def volume(self) -> Tensor:
        """Area or volume of the cell, ()."""
        return self.weights.sum()

    def strains(self, macro: Tensor, amplitudes: Tensor) -> Tensor:
        """Return strains, (batch, points, n), of macroscopic strains (batch, n) and amplitudes (batch, r)."""
        flat = self.strain_modes.flatten(0, 1)
        return macro[:, None] + (amplitudes @ flat.T).reshape(len(macro), -1, self.strain_size)

    def stresses(self, strains: Tensor) -> Tensor:
        """Return stresses of the laws, (batch, points, n), of strains (batch, points, n)."""
        out = torch.empty_like(strains)
        for phase, law in enumerate(self.laws):
            here = self.phases == phase
            chosen = strains[:, here]
            out[:, here] = law.stress(chosen.reshape(-1, self.strain_size)).reshape(chosen.shape)
        return out

    def potentials(self, strains: Tensor) -> Tensor:
        """Return potentials of the laws, (batch, points), of strains (batch, points, n)."""
        out = torch.empty_like(strains[:, :, 0])
        for phase, law in enumerate(self.laws):
            here = self.phases == phase
            out[:, here] = law.potential(strains[:, here])
        return out

    def average(self, values: Tensor) -> Tensor:
        """Return the mean over the cell, (batch, n), of values (batch, points, n)."""
        return torch.einsum("p,bpn->bn", self.weights, values) / self.volume

    def strain_amplitudes(self, strains: Tensor) -> Tensor:
        """Return amplitudes (batch, r), nearest in energy at zero strain, of fluctuations' strains."""
        weighted = torch.empty_like(strains)
        zero = strains.new_zeros(1, self.strain_size)
        for phase, law in enumerate(self.laws):
            here = self.phases == phase
            weighted[:, here] = self.weights[here, None] * (strains[:, here] @ law.tangent(zero)[0])
        return weighted.flatten(1) @ self.strain_modes.flatten(0, 1)

    def stress_amplitudes(self, stresses: Tensor) -> Tensor:
        """Return amplitudes (batch, s), nearest in L2, of stresses (batch, points, n)."""
        weighted = (self.weights[:, None] * stresses).flatten(1)
        return weighted @ self.stress_modes.flatten(0, 1)

    def in_equilibrium(self, stresses: Tensor) -> Tensor:
        """Return the stresses nearest in L2 that the stress modes span; both (batch, points, n)."""
        return self.from_amplitudes(self.stress_amplitudes(stresses))

    def from_amplitudes(self, amplitudes: Tensor) -> Tensor:
        """Return stresses in equilibrium, (batch, points, n), of amplitudes (batch, s)."""
        flat = amplitudes @ self.stress_modes.flatten(0, 1).T
        return flat.reshape(len(amplitudes), *self.stress_modes.shape[:2])

    def operators(self, points: Tensor) -> Tensor:
        """Return G at some points, (points, n, n + r): strain = G (E, a)."""
        one = torch.eye(self.strain_size, dtype=torch.float64, device=self.weights.device)
        return torch.cat([one.expand(len(points), -1, -1), self.strain_modes[points]], 2)

    def nonlinear_points(self) -> Tensor:
        """Return the numbers of the points whose law is not linear."""
        nonlinear = [k for k, law in enumerate(self.laws) if not law.linear]
        return torch.isin(self.phases, torch.tensor(nonlinear, device=self.phases.device)).nonzero()[:, 0]

    def quadratic(self) -> Tensor:
        """Return the quadratic parts of the laws integrated over the cell, per volume, (n + r, n + r)."""
        Q = torch.zeros(self.strain_size + self.rank, self.strain_size + self.rank, dtype=torch.float64)
        Q = Q.to(self.weights.device)
        for phase, law in enumerate(self.laws):
            here = (self.phases == phase).nonzero()[:, 0]
            G = self.operators(here)
            C = law.quadratic(self.strain_size).to(G.device)
            weighted = self.weights[here, None, None] * (C @ G)
            Q += G.reshape(-1, len(Q)).T @ weighted.reshape(-1, len(Q))
        return 0.5 * (Q + Q.T) / self.volume  # rounding only

    def potential(self, points: Tensor | None = None, weights: Tensor | None = None) -> ReducedPotential:
        """Return the potential of the cell.

        Args:
            points: (m,) int64, of a reduced quadrature of the laws' remainders; None: all points.
            weights: (m,) of these points, for integrals over the cell.
        """
        if points is None or weights is None:
            points = self.nonlinear_points()
            weights = self.weights[points]
        groups = [(law, points[self.phases[points] == k], k) for k, law in enumerate(self.laws)]
        groups = [group for group in groups if len(group[1])]
        return ReducedPotential(
            self.quadratic(),
            [law for law, _, _ in groups],
            [self.operators(where) for _, where, _ in groups],
            [weights[self.phases[points] == k] / self.volume for _, _, k in groups],
        )

    def content(self) -> dict[str, Any]:
        """Return plain values and tensors that `from_content` makes this of.

        Raises:
            SponError: a law that is not one of spon's own.
        """
        laws = [describe_material(law) for law in self.laws]
        tensors = {name: getattr(self, name).cpu() for name in _TENSORS}
        return {"names": list(self.names), "laws": laws, **tensors}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> LocalFields:
        """Make what `content` described."""
        laws = [make_material(**law) for law in content["laws"]]
        return cls(content["names"], laws, *(content[name] for name in _TENSORS))
