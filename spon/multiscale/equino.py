"""EquiNO: two networks for the amplitudes of strains and of stresses in equilibrium."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.branch import Branch
from spon.multiscale.calibration import covering_factor
from spon.multiscale.least_mismatch import least_mismatch
from spon.multiscale.local_fields import LocalFields
from spon.multiscale.micromodel import Response
from spon.multiscale.modes import find_modes
from spon.multiscale.regression import Regression, fit_branch
from spon.multiscale.snapshots import Snapshots
from spon.multiscale.surrogate import Surrogate, trained_box
from spon.multiscale.unlabelled import draw_points, in_box, refine, sample_weights
from spon.progress import progress_bar

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["EquiNO"]


class EquiNO(Surrogate):
    """Equilibrium neural operator of Eivazi et al. 2025 (arXiv 2504.07976), as published.

    Strains ε = E + Φᵉ bᵉ(E) are compatible and periodic, stresses σ = Φˢ bˢ(E) in equilibrium, whatever the
    networks bᵉ, bˢ answer; they are trained so that the laws hold, by the mean of |σ(ε) − Φˢ bˢ|² over the
    cell. The stress is the mean of Φˢ bˢ, the tangent its derivative by automatic differentiation: it is
    *not* symmetric.

    As published are the networks (four hidden layers of 64, swish, float64), the loss, strains without
    labels, and Adam followed by L-BFGS. Other than published: the modes are orthonormal in the weighted
    products of `find_modes`, and Adam and most of L-BFGS do not see the loss itself but its minimisers. For
    one strain these are a small least-squares problem (`least_mismatch`); each network is fitted to the
    amplitudes found for some thousand strains (`fit_branch`), without quadrature, and so that large ones do
    not drown small ones. L-BFGS on the loss itself, at some of the points, comes last.

    The indicator is factor · ‖σ(ε) − Φˢ bˢ‖ / ‖Φˢ bˢ‖ in L2, on some points of the cell. It follows the error
    of the local stress; `calibrate` scales it to that of the macroscopic stress.

    Args:
        fields: cell with its modes.
        strain_branch: bᵉ.
        stress_branch: bˢ.
        control: (m,) int64, points of the indicator.
        control_weights: (m,) with which they stand for the integral over the cell.
        box: (2, n) trained strains.
        factor: of the indicator.
    """

    settings: ClassVar[tuple[str, ...]] = ("rank", "energy", "steps", "refinements", "seed", "show")

    def __init__(
        self,
        fields: LocalFields,
        strain_branch: Branch,
        stress_branch: Branch,
        control: Tensor,
        control_weights: Tensor,
        box: Tensor,
        factor: float = 1.0,
    ) -> None:
        super().__init__(box)
        self.fields, self.factor = fields, factor
        self.strain_branch, self.stress_branch = strain_branch, stress_branch
        self.register_buffer("control", control)
        self.register_buffer("control_weights", control_weights)
        self.register_buffer(
            "mean", torch.einsum("p,pns->sn", fields.weights, fields.stress_modes) / fields.volume
        )

    @classmethod
    def fit(
        cls,
        rve: RVE,
        snapshots: Snapshots,
        held_back: Snapshots | None = None,
        rank: int | None = 16,
        energy: float = 1e-8,
        strains: int = 2000,
        points: int = 200,
        last: int | None = None,
        control: int = 300,
        **settings: Any,
    ) -> EquiNO:
        """Find modes of solved load cases and train the networks on strains alone.

        Args:
            rve: cell.
            snapshots: load cases for the modes and the range of strains; none of their stresses is a label,
                and sensitivities are left out.
            held_back: load cases to calibrate the indicator on; None: it stays the mismatch.
            rank: number of modes of each kind.
            energy: where `rank` is None: the share of the snapshots' energy that may be left out.
            strains: to train on, a Latin hypercube.
            points: quadrature points of the loss, drawn once.
            last: iterations of L-BFGS on the loss itself; None: a fifth of the refinements.
            control: number of points for the indicator.
            settings: of `Regression`, for each of the networks.

        Raises:
            SponError: a number that is not positive; see `find_modes`, `Regression` and `least_mismatch`.
        """
        how = Regression(**settings)
        for name, value in (("strains", strains), ("points", points), ("control", control)):
            if value < 1:
                raise SponError(f"{name} = {value}; allowed: 1 or more")
        published = replace(snapshots, sensitivities=None)
        fields = LocalFields.from_modes(rve, find_modes(rve, published, rank, energy))
        box, density = trained_box(snapshots.strains), fields.leverage()

        def drawn(count: int) -> tuple[Tensor, Tensor]:
            where = draw_points(density, count, 0.5)
            return where, sample_weights(fields.weights, density, where)

        strain, some = in_box(box, strains, how.seed), drawn(points)
        found = least_mismatch(fields, strain, *some)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(how.seed)
            branches = [Branch(box, amplitudes.square().mean(0).sqrt()) for amplitudes in found]
        for branch, amplitudes, what in zip(branches, found, ("strains", "stresses"), strict=True):
            fit_branch(branch, strain, amplitudes, how, what)
        equino = cls(fields, branches[0], branches[1], *drawn(control), box)
        parameters = [*branches[0].parameters(), *branches[1].parameters()]
        size = found[1].square().sum(1).mean() / fields.volume
        last = how.refinements // 5 if last is None else last
        bar = progress_bar(last, "mismatch", "step", how.show)
        refine(parameters, lambda: equino.mismatch(strain, *some).mean() / size, last, bar)
        bar.close()
        if held_back is not None:
            equino.calibrate(held_back)
        return equino

    def mismatch(self, strain: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """Return the mean of |σ(ε) − Φˢ bˢ|² over the cell by some of its points, (batch,).

        Args:
            strain: (batch, n).
            points: (m,) int64.
            weights: (m,) with which they stand for the integral over the cell.
        """
        some = self.fields.at(points, weights)
        strains = some.strains(strain, self.strain_branch(strain))
        stresses = self.stress_branch(strain) @ some.stress_modes.flatten(0, 1).T
        off = some.stresses(strains) - stresses.reshape(strains.shape)
        return off.square().sum(2) @ weights / self.fields.volume

    def stress(self, strain: Tensor) -> Tensor:
        """Return macroscopic stresses, (…, n), of strains (…, n)."""
        out: Tensor = self.stress_branch(strain) @ self.mean
        return out

    def respond_within(self, strain: Tensor) -> Response:
        """Return the response to strains (batch, n)."""

        def twice(one: Tensor) -> tuple[Tensor, Tensor]:
            stress = self.stress(one)
            return stress, stress

        tangent, stress = torch.func.vmap(torch.func.jacfwd(twice, has_aux=True))(strain)
        return Response(stress, tangent, self.factor * self._relative(strain), ~torch.isfinite(stress).all(1))

    @torch.no_grad()
    def local(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return compatible strains and stresses in equilibrium, (batch, points, n) each.

        Args:
            strain: (batch, n) macroscopic strains, float64.

        Raises:
            SponError: a strain of another length or type, or one that is not finite.
        """
        strain = self.on_device(strain)
        if not torch.isfinite(strain).all():
            raise SponError(f"local fields at the strain {strain.tolist()}; allowed: finite numbers")
        strains = self.fields.strains(strain, self.strain_branch(strain))
        return strains, self.fields.from_amplitudes(self.stress_branch(strain))

    @torch.no_grad()
    def calibrate(self, snapshots: Snapshots, covered: float = 0.95) -> None:
        """Choose the factor so that this share of some load cases has an error below the indicator.

        Args:
            snapshots: solved load cases that nothing else was made of.
            covered: share, between 0 and 1.
        """
        strain, exact = self.on_device(snapshots.strains), snapshots.macro_stresses.to(self.box.device)
        error = (self.stress(strain) - exact).norm(dim=1) / exact.norm(dim=1)
        self.factor = covering_factor(error / self._relative(strain), covered)

    def content(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        return {
            "fields": self.fields.content(),
            "strain_branch": self.strain_branch.content(),
            "stress_branch": self.stress_branch.content(),
            "control": self.control.cpu(),
            "control_weights": self.control_weights.cpu(),
            "box": self.box.cpu(),
            "factor": self.factor,
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> EquiNO:
        """Make what `content` described."""
        first, second = (Branch.from_content(content[name]) for name in ("strain_branch", "stress_branch"))
        fields = LocalFields.from_content(content["fields"])
        names = ("control", "control_weights", "box", "factor")
        return cls(fields, first, second, *(content[name] for name in names))

    def _relative(self, strain: Tensor) -> Tensor:
        """Return ‖σ(ε) − Φˢ bˢ‖ / ‖Φˢ bˢ‖, (batch,); the modes are orthonormal."""
        size = self.stress_branch(strain).square().sum(1) / self.fields.volume
        return (self.mismatch(strain, self.control, self.control_weights) / size).sqrt()
