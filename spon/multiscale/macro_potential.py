"""Potentials of the macroscopic strain alone: stress and tangent are its derivatives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.fitting import labels
from spon.multiscale.micromodel import Response
from spon.multiscale.potential import places
from spon.multiscale.reduced import ReducedRVE, reduce_rve
from spon.multiscale.snapshots import Snapshots
from spon.multiscale.sobolev import SobolevLabels
from spon.multiscale.surrogate import Surrogate, surrogate_class

if TYPE_CHECKING:
    from typing_extensions import Self

    from spon.multiscale.rve import RVE

__all__ = ["MacroPotential", "learn_potential"]

_COVERED = 0.95


class MacroPotential(Surrogate):
    """W(E), even in E, learned from stresses and tangents that the reduced cell finds (Sobolev training).

    The response has to be odd in the strain, as that of all laws of spon is. A least-squares fit
    leaves about the same error at all strains in the trained box, so the indicator, relative, is that error
    over the size of the stress, and what the reduced cell estimates of its own.

    Args:
        box: (2, n) trained strains.
        error: of the fit, norm of a stress, not exceeded by 95 % of the strains tried.
        reduction: relative error of the labels, estimated, not exceeded by 95 % either.
        least: norm of a stress; smaller ones, down to rest, have the indicator of this one, since there the
            error falls with the stress.
    """

    batch: ClassVar[int] = 500
    settings: ClassVar[tuple[str, ...]] = ReducedRVE.settings
    kept: ClassVar[tuple[str, ...]] = ()  # tensors of the file, arguments of the constructor

    def __init__(self, box: Tensor, error: float, reduction: float, least: float) -> None:
        super().__init__(box)
        self.error, self.reduction, self.least = error, reduction, least

    @abstractmethod
    def derivatives(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return dW/dE and the upper triangle of d²W/dE², (n (n + 1)/2, batch), at E (n, batch)."""

    @classmethod
    @abstractmethod
    def fitted(cls, found: SobolevLabels, box: Tensor, seed: int, *args: Any, **settings: Any) -> Self:
        """Fit a potential to labels, all float64 and on the CPU; its errors are found later."""

    @classmethod
    def fit(
        cls,
        rve: RVE,
        snapshots: Snapshots,
        held_back: Snapshots | None = None,
        learning: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Self:
        """Reduce a cell and learn its potential.

        Args:
            rve: cell.
            snapshots: load cases to learn from.
            held_back: load cases to calibrate the indicator of the reduced cell on.
            learning: settings of `learn`.
            settings: of `reduce_rve`.

        Raises:
            SponError: see `reduce_rve`, `learn`.
        """
        return cls.learn(reduce_rve(rve, snapshots, held_back=held_back, **settings), **(learning or {}))

    @classmethod
    def learn(cls, reduced: ReducedRVE, samples: int = 1000, seed: int = 0, **settings: Any) -> Self:
        """Learn the potential of a reduced cell; no finite-element solution is needed.

        Args:
            reduced: cell.
            samples: strains of a Latin hypercube in the trained box.
            seed: of strains and of what the fit draws.
            settings: of the kind of potential.

        Raises:
            SponError: no sample, a wrong setting, or the reduced cell finds no equilibrium.
        """
        strain, found = labels(reduced, samples, seed)
        box = reduced.box.cpu()
        scaled = SobolevLabels.of(strain.cpu(), found.stress.cpu(), found.tangent.cpu(), box.abs().amax(0))
        potential = cls.fitted(scaled, box, seed, **settings)
        potential._calibrate(reduced, samples, seed + 1)
        return potential.to(reduced.box.device)

    def respond_within(self, strain: Tensor) -> Response:
        """Return the response to strains (batch, n)."""
        gradient, hessian = self.derivatives(strain.T)
        tangent = hessian[places(self.strain_size).to(strain.device)].T.reshape(*strain.shape, -1)
        failed = ~torch.isfinite(gradient).all(0)
        size = gradient.square().sum(0).sqrt_()
        indicator = self.reduction + self.error / size.clamp_min_(self.least)
        return Response(gradient.T, tangent, indicator, failed)

    def content(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        return {name: getattr(self, name).cpu() for name in ("box", *self.kept)} | {
            "error": self.error,
            "reduction": self.reduction,
            "least": self.least,
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Self:
        """Make what `content` described."""
        return cls(**{name: content[name] for name in ("box", *cls.kept, "error", "reduction", "least")})

    def _calibrate(self, reduced: ReducedRVE, samples: int, seed: int) -> None:
        """Find the errors on other labels."""
        strain, exact = labels(reduced, samples, seed)
        stress, own = exact.stress.cpu(), ReducedRVE.respond_within(reduced, strain).indicator
        error = (self.respond(strain.cpu()).stress - stress).norm(dim=1)
        self.error, self.least = float(error.quantile(_COVERED)), float(stress.norm(dim=1).min())
        self.reduction = 0.0 if own is None else float(own.quantile(_COVERED))


def learn_potential(
    reduced: ReducedRVE, kind: str = "ConvexPotential", samples: int = 1000, seed: int = 0, **settings: Any
) -> MacroPotential:
    """Learn a potential by the name of its kind, see `MacroPotential.learn`.

    Raises:
        SponError: no potential of that name; see `MacroPotential.learn`.
    """
    chosen = surrogate_class(kind)
    if not issubclass(chosen, MacroPotential):
        raise SponError(f"a potential '{kind}'; allowed: ConvexPotential, PolynomialPotential, MLPPotential")
    return chosen.learn(reduced, samples, seed, **settings)
