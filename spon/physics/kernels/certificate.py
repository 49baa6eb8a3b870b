"""Certificates: what the residual says about the error of each prediction."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from spon.errors import SponError
from spon.files import replacing
from spon.physics.kernels.dual_norm import DualNorm

__all__ = ["Certificate", "Certified", "Effectivity"]


class _Model(Protocol):
    def __call__(self, inputs: Tensor, shift: Tensor | None = None, /) -> Tensor:
        """Return predictions (batch, DoFs)."""


@dataclass(frozen=True)
class Effectivity:
    """Quantiles of ‖e‖ / η over a validation set.

    Args:
        lower: the quantile 1 − level.
        median: that an estimate is multiplied with.
        upper: the quantile level, with the finite-sample correction of split conformal prediction: of a new
            exchangeable sample ‖e‖ ≤ upper · η with probability ≥ level (Lei et al. 2018, J. Am. Stat.
            Assoc. 113, section 2.2).
        level: such as 0.9.
        samples: in the validation set.
    """

    lower: float
    median: float
    upper: float
    level: float
    samples: int

    def save(self, path: str | Path, fingerprint: str) -> None:
        """Write JSON.

        Args:
            path: file to make or replace.
            fingerprint: of the discretisation that the samples are of.
        """
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"fingerprint": fingerprint, **asdict(self)}, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path, fingerprint: str) -> Effectivity:
        """Read what `save` wrote.

        Raises:
            SponError: not readable, or of another discretisation.
        """
        try:
            found = json.loads(Path(path).read_text())
            of = found.pop("fingerprint")
            out = cls(**found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SponError(f"{path}: not a readable calibration: {error}") from error
        if of != fingerprint:
            raise SponError(f"{path}: of the discretisation {of}; allowed: {fingerprint}")
        return out


@dataclass(frozen=True)
class Certified:
    """A certificate for each sample of a batch, of the discrete problem: not of what the mesh cannot resolve.

    Args:
        eta: (batch,) residual in the dual norm.
        relative: (batch,) energy error relative to the energy norm of the prediction: a bound where `kind` is
            "guaranteed", else an estimate.
        upper: (batch,) what it does not exceed: always if guaranteed, with the probability `level` of the
            calibration if estimated; None without calibration.
        kind: "estimated" or "guaranteed".
    """

    eta: Tensor
    relative: Tensor
    upper: Tensor | None
    kind: str


class Certificate:
    """Certify predictions by their residual in the dual norm; torch alone.

    Args:
        norm: η.
        stability: inputs (batch, DoFs of all inputs) ↦ (batch,) α with F'(v, v) ≥ α (v, v)_V, for a linear
            problem with symmetric positive definite F', where the preconditioner of `norm` is the exact
            inverse of the Riesz map of V. The certificates are then guaranteed: ‖e‖ ≤ η / √α in the energy
            norm. None: they are estimates.

    Attributes:
        effectivity: from `calibrate`; None before.
    """

    def __init__(self, norm: DualNorm, stability: Callable[[Tensor], Tensor] | None = None) -> None:
        self.norm, self.stability = norm, stability
        self.effectivity: Effectivity | None = None

    def calibrate(self, u: Tensor, m: Tensor, reference: Tensor, level: float = 0.9) -> Effectivity:
        """Measure how the energy errors of predictions compare to η, for the estimates that follow.

        Args:
            u: (samples, DoFs) float64, predictions for a validation set that was not trained on.
            m: (samples, DoFs of all inputs).
            reference: (samples, DoFs) solutions by the same discrete problem.
            level: of the upper quantile, between 0.5 and 1.

        Raises:
            SponError: a level out of range; too few samples for it; η = 0.
        """
        if not 0.5 < level < 1.0:
            raise SponError(f"level = {level}; allowed: between 0.5 and 1")
        rank = math.ceil((len(u) + 1) * level - 1e-9)
        if rank > len(u):
            least = math.ceil(level / (1 - level) - 1e-9)
            raise SponError(f"calibration on {len(u)} samples; allowed: >= {least} for the level {level:g}")
        with torch.no_grad():
            eta = self.norm(u, m)
        if not bool((eta > 0.0).all()):
            raise SponError("η = 0 in the calibration; allowed: predictions with an error")
        ratio = (self.norm.energy(u - reference, u, m) / eta).sort().values
        self.effectivity = Effectivity(
            float(ratio[len(u) - rank]), float(ratio.median()), float(ratio[rank - 1]), level, len(u)
        )
        return self.effectivity

    @torch.no_grad()
    def __call__(self, u: Tensor, m: Tensor) -> Certified:
        """Certify fields that have the right boundary values.

        Args:
            u: (batch, DoFs) float64.
            m: (batch, DoFs of all inputs) float64.

        Raises:
            SponError: an α that is not positive; η as in `DualNorm`.
        """
        eta = self.norm(u, m)
        relative = eta / self.norm.energy(u, u, m)
        if self.stability is not None:
            alpha = self.stability(m)
            if alpha.shape != eta.shape or not bool((alpha > 0.0).all()):
                raise SponError(f"stability constants {alpha.tolist()}; allowed: > 0, one for each sample")
            bound = relative / alpha.sqrt()
            return Certified(eta, bound, bound, "guaranteed")
        if self.effectivity is None:
            return Certified(eta, relative, None, "estimated")
        found = self.effectivity
        return Certified(eta, found.median * relative, found.upper * relative, "estimated")

    @torch.no_grad()
    def certify(self, model: _Model, inputs: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Certified]:
        """Predict and certify.

        Args:
            model: such as a `spon.OperatorNetwork`.
            inputs: (batch, DoFs of all inputs) float64.
            shift: (batch, DoFs) u_g of each sample; default: that of the model.

        Returns:
            The predictions (batch, DoFs), and their certificates.
        """
        u = model(inputs, shift)
        return u, self(u, inputs)
