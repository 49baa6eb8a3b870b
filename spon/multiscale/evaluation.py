"""Errors of a surrogate on solved load cases."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.stats
import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.snapshots import Snapshots
from spon.multiscale.surrogate import Surrogate

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["SurrogateErrors", "evaluate_surrogate"]

_AT_ONCE = 20  # load cases whose local fields are held at a time


@dataclass(frozen=True)
class SurrogateErrors:
    """Relative errors over load cases; 0.01 is one per cent.

    Args:
        cases: how many load cases.
        failed: how many of them have no answer; they count in nothing below.
        outside: how many leave the trained box.
        macro: of the macroscopic stress, each component in L2 over all cases.
        tangent: of the tangent, mean over the cases of ‖ΔC‖ / ‖C‖ in Frobenius' norm.
        shear_mean, shear_max: of the tangent's last diagonal entry.
        asymmetry: largest ‖C − Cᵀ‖ / ‖C‖ of the surrogate's tangents.
        local: of the stress at the points of the cell, each component in L2 over cell and cases; None: the
            surrogate has no local fields.
        indicator_macro: rank correlation of the indicator and the error of the macroscopic stress; None:
            there is no indicator, or all cases are outside.
        indicator_local: the same of the local stress.
        covered: share of the cases in the box with an error of the macroscopic stress below the indicator.
        calibrated: number of cases that the indicator was calibrated on; None: the surrogate does not say.
    """

    cases: int
    failed: int
    outside: int
    macro: list[float]
    tangent: float
    shear_mean: float
    shear_max: float
    asymmetry: float
    local: list[float] | None
    indicator_macro: float | None
    indicator_local: float | None
    covered: float | None
    calibrated: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@torch.no_grad()
def evaluate_surrogate(surrogate: Surrogate, rve: RVE, snapshots: Snapshots) -> SurrogateErrors:
    """Compare a surrogate on the processor with finite elements.

    Args:
        surrogate: of the cell.
        rve: cell of the load cases; its weights are those of the local norms.
        snapshots: load cases that the surrogate was not made of.

    Raises:
        SponError: strains of another length, another cell, or no answer to any load case.
    """
    answer = surrogate.respond(snapshots.strains)
    here = ~answer.failed
    if not here.any():
        raise SponError(
            f"no answer to any of {len(here)} load cases; allowed: strains within the trained box"
        )
    strain, exact = snapshots.strains[here], snapshots.macro_stresses[here]
    tangent, tangents = answer.tangent[here], snapshots.tangents[here]
    macro = answer.stress[here] - exact
    frobenius = (tangent - tangents).norm(dim=(1, 2)) / tangents.norm(dim=(1, 2))
    shear = (tangent[:, -1, -1] / tangents[:, -1, -1] - 1).abs()
    skew = (tangent - tangent.mT).norm(dim=(1, 2)) / tangent.norm(dim=(1, 2))
    local, of_case = _local(surrogate, rve, strain, snapshots.stresses[here])
    error = macro.norm(dim=1) / exact.norm(dim=1)
    indicator = None if answer.indicator is None else answer.indicator[here]
    covered = None
    if indicator is not None and torch.isfinite(indicator).any():
        inside = torch.isfinite(indicator)
        covered = float((error <= indicator)[inside].double().mean())
    return SurrogateErrors(
        cases=len(here),
        failed=int((~here).sum()),
        outside=int(surrogate.outside(snapshots.strains).sum()),
        macro=_relative(macro, exact),
        tangent=float(frobenius.mean()),
        shear_mean=float(shear.mean()),
        shear_max=float(shear.max()),
        asymmetry=float(skew.max()),
        local=local,
        indicator_macro=_correlation(indicator, error),
        indicator_local=None if of_case is None else _correlation(indicator, of_case),
        covered=covered,
        calibrated=getattr(surrogate, "calibrated", None),
    )


def _local(
    surrogate: Surrogate, rve: RVE, strain: Tensor, exact: Tensor
) -> tuple[list[float] | None, Tensor | None]:
    """Return errors of the components, and of the load cases; None where there are no local fields."""
    if type(surrogate).local is Surrogate.local:
        return None, None
    w = torch.as_tensor(rve.weights)[:, None]
    off, whole = [], []
    for part, stresses in zip(strain.split(_AT_ONCE), exact.split(_AT_ONCE), strict=True):
        found = surrogate.local(part)[1]
        if found.shape != stresses.shape:
            shapes = tuple(found.shape[1:]), tuple(stresses.shape[1:])
            raise SponError(
                f"local stresses {shapes[0]} of the surrogate; allowed: {shapes[1]}, of this cell"
            )
        off.append((w * (found - stresses) ** 2).sum(1))
        whole.append((w * stresses**2).sum(1))
    square, size = torch.cat(off), torch.cat(whole)
    return (square.sum(0) / size.sum(0)).sqrt().tolist(), (square.sum(1) / size.sum(1)).sqrt()


def _relative(off: Tensor, exact: Tensor) -> list[float]:
    """Return ‖off‖ / ‖exact‖ of each column."""
    out: list[float] = (off.norm(dim=0) / exact.norm(dim=0)).tolist()
    return out


def _correlation(indicator: Tensor | None, error: Tensor) -> float | None:
    """Return Spearman's rank correlation in the trained box; None where it is not defined."""
    if indicator is None:
        return None
    inside = torch.isfinite(indicator)
    one, other = indicator[inside].numpy(), error[inside].numpy()
    if len(one) < 3 or not np.ptp(one) or not np.ptp(other):
        return None
    return float(scipy.stats.spearmanr(one, other).statistic)
