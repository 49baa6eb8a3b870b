"""How far inputs lie from those that a network was trained on."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from spon.data.dataset import Dataset
from spon.errors import SponError
from spon.files import replacing
from spon.nn.operator import OperatorNetwork

__all__ = ["InputDistance", "InputRange"]

FORMAT = 1

Floats = npt.NDArray[np.float64]

_NUMBERS = 2_000_000  # in the modes that are kept: 16 MB
_MAHALANOBIS = 32  # modes at most, and a fifth of the samples, whose variances are then known well enough


@dataclass(frozen=True)
class InputDistance:
    """How far samples lie from the training inputs.

    Args:
        nearest: (samples,) distance to the nearest training input, relative to the root mean square distance
            of the training inputs from their mean.
        mahalanobis: (samples,) in the leading modes of the training inputs.
        reasons: for each sample why it is outside, in words; empty where it is not.
    """

    nearest: Floats
    mahalanobis: Floats
    reasons: tuple[tuple[str, ...], ...]

    @property
    def outside(self) -> npt.NDArray[np.bool_]:
        """(samples,) whether the input is unlike all training inputs."""
        return np.array([bool(reasons) for reasons in self.reasons], dtype=bool)


@dataclass(frozen=True)
class InputRange:
    """What is kept of the training inputs in order to judge others.

    Inputs are compared as the network sees them, transformed and standardised, in the norm
    ‖x‖² = Σ_k s_k x_kᵀ M_k x_k over the inputs k, with s_k such that each has mean square deviation 1. With
    the modes φ of their proper orthogonal decomposition in this norm (Sirovich 1987, method of snapshots),
    ‖x − x_j‖² = |c − c_j|² + ‖ρ − ρ_j‖² for coefficients c and remainders ρ. Where all modes are kept
    ρ_j = 0 and distances are exact; else ‖ρ‖² + ‖ρ_j‖² stands for the last term, which is its mean over
    independent inputs. A sample is outside if

    - a component of an input has values below or above all of the training inputs,
    - its Mahalanobis distance (Σ_m c_m² / λ_m)^½ in the leading modes, or
    - its distance to the nearest training input

    is larger than that of any training input to the *other* ones. A further input of the same distribution
    exceeds each of the two limits with probability 1 / (n + 1) for n training inputs, if the modes are known.

    Args:
        fingerprint: of the discretisation.
        components: names of the components of the inputs.
        low: (components,) least nodal value.
        high: (components,) largest nodal value.
        scales: (inputs,) s_k.
        mean: (DoFs of all inputs,) of the standardised training inputs.
        modes: (modes, DoFs) orthonormal.
        variances: (modes,) λ, those of the leading modes.
        coefficients: (training samples, modes).
        remainders: (training samples,) ‖ρ_j‖².
        limits: (2,) largest nearest distance, relative, and Mahalanobis distance of a training input to the
            others.
    """

    fingerprint: str
    components: tuple[str, ...]
    low: Floats
    high: Floats
    scales: Floats
    mean: Floats
    modes: Floats
    variances: Floats
    coefficients: Floats
    remainders: Floats
    limits: Floats

    @classmethod
    def of(cls, model: OperatorNetwork, train: Dataset) -> InputRange:
        """Take the training inputs in.

        Args:
            model: trained on them.
            train: three samples or more.

        Raises:
            SponError: fewer samples, another discretisation, or an input that the transform does not allow.
        """
        n = len(train)
        if n < 3:
            raise SponError(f"{n} training samples; allowed: at least 3")
        train.discretisation.require(model.fingerprint, "the model")
        names, low, high = _extremes(model, train.inputs)
        x = _standardised(model, train.inputs)
        mean = x.mean(axis=0)
        x -= mean
        scales = _scales(model, x)
        weighted = _apply_mass(model, scales, x)
        gram = x @ weighted.T
        values, vectors = np.linalg.eigh(gram)
        values, vectors = values[::-1], vectors[:, ::-1]
        some = int((values > 1e-12 * max(values[0], 0.0)).sum()) if values[0] > 0 else 0
        kept = min(some, n - 1, max(_MAHALANOBIS, _NUMBERS // x.shape[1]))
        root = np.sqrt(values[:kept])
        modes = (vectors[:, :kept] / root).T @ x
        coefficients = vectors[:, :kept] * root
        size = gram.diagonal()
        remainders = np.maximum(size - (coefficients**2).sum(axis=1), 0.0)
        remainders[remainders < 1e-10 * size.max(initial=0.0)] = 0.0
        # by the formula of `distance`, so that an independent input is measured in the same way
        square = size[:, None] + size[None, :] - 2.0 * (coefficients @ coefficients.T)
        np.fill_diagonal(square, np.inf)
        nearest = np.sqrt(np.maximum(square, 0.0).min(axis=1)).max() / _spread(coefficients, remainders)
        leading = min(kept, _MAHALANOBIS, n // 5)
        variances = values[:leading] / (n - 1)
        squares = (coefficients[:, :leading] ** 2 / variances).sum(axis=1)
        limits = np.array([nearest, np.sqrt(_left_out(squares, n).max(initial=0.0))])
        found = (low, high, scales, mean, modes, variances, coefficients, remainders, limits)
        return cls(model.fingerprint, names, *found)

    def distance(self, model: OperatorNetwork, inputs: Floats) -> InputDistance:
        """Compare inputs with the training inputs.

        Args:
            model: that the object was made with.
            inputs: (samples, DoFs of all inputs).

        Raises:
            SponError: another discretisation, or an input that the transform does not allow.
        """
        model.discretisation.require(self.fingerprint, "the range of the training inputs")
        z = _standardised(model, inputs) - self.mean
        weighted = _apply_mass(model, self.scales, z)
        c = weighted @ self.modes.T
        rest = np.maximum((z * weighted).sum(axis=1) - (c**2).sum(axis=1), 0.0)
        square = [(((self.coefficients - one) ** 2).sum(axis=1) + self.remainders).min() for one in c]
        nearest = np.sqrt(square + rest) / _spread(self.coefficients, self.remainders)
        m = len(self.variances)
        mahalanobis = np.sqrt((c[:, :m] ** 2 / self.variances).sum(axis=1))
        _, low, high = zip(*(_extremes(model, one[None]) for one in inputs), strict=True)
        reasons = tuple(
            (*self._values(*pair), *self._far(float(near), float(far)))
            for *pair, near, far in zip(low, high, nearest, mahalanobis, strict=True)
        )
        return InputDistance(nearest, mahalanobis, reasons)

    def _values(self, low: Floats, high: Floats) -> list[str]:
        slack = 1e-9 * np.maximum(np.abs(self.low), np.abs(self.high))
        wrong = np.flatnonzero((low < self.low - slack) | (high > self.high + slack))
        return [
            f"{self.components[k]} from {low[k]:.4g} to {high[k]:.4g}, in training {self.low[k]:.4g} to "
            f"{self.high[k]:.4g}"
            for k in wrong
        ]

    def _far(self, nearest: float, mahalanobis: float) -> list[str]:
        pairs = zip(("distance", "Mahalanobis distance"), (nearest, mahalanobis), self.limits, strict=True)
        return [
            f"{name} {value:.3g}, among the training inputs {limit:.3g} at most"
            for name, value, limit in pairs
            if value > limit * (1 + 1e-9)
        ]

    def save(self, path: str | Path) -> None:
        """Write an `.npz` file."""
        arrays: dict[str, Any] = {k: np.array(v) for k, v in vars(self).items()}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, format=FORMAT, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> InputRange:
        """Read what `save` wrote.

        Raises:
            SponError: no such file, unreadable, or of another format.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                content = dict(file)
            found = int(content.pop("format"))
            if found != FORMAT:
                raise SponError(f"{path}: format {found} of a range of inputs; allowed: {FORMAT}")
            content |= {
                "fingerprint": str(content["fingerprint"]),
                "components": tuple(map(str, content["components"])),
            }
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise SponError(f"{path}: not a readable range of inputs: {error}") from error


def _standardised(model: OperatorNetwork, inputs: Floats) -> Floats:
    with torch.no_grad():
        given = torch.as_tensor(inputs, dtype=torch.float64, device=model.shift.device)
        return np.array(model.standardise(given).cpu().numpy())


def _blocks(model: OperatorNetwork) -> list[tuple[slice, sp.csr_array]]:
    out, first = [], 0
    for space in model.discretisation.inputs.values():
        out.append((slice(first, first + space.dofs), space.mass))
        first += space.dofs
    return out


def _scales(model: OperatorNetwork, centred: Floats) -> Floats:
    """Return s_k for inputs (samples, DoFs) minus their mean."""
    out = []
    for part, mass in _blocks(model):
        x = centred[:, part]
        square = float((x * (mass @ x.T).T).sum() / len(x))
        volume = float(np.abs(mass).sum())
        out.append(1.0 / (square if square > 1e-20 * volume else volume))
    return np.array(out)


def _apply_mass(model: OperatorNetwork, scales: Floats, x: Floats) -> Floats:
    out = np.empty_like(x)
    for scale, (part, mass) in zip(scales, _blocks(model), strict=True):
        out[:, part] = scale * (mass @ x[:, part].T).T
    return out


def _extremes(model: OperatorNetwork, inputs: Floats) -> tuple[tuple[str, ...], Floats, Floats]:
    """Return name, least and largest nodal value of each component of each input."""
    names: list[str] = []
    low: list[Floats] = []
    high: list[Floats] = []
    spaces = model.discretisation.inputs
    for (name, space), (part, _) in zip(spaces.items(), _blocks(model), strict=True):
        c = space.components
        names += [name] if c == 1 else [f"{name}_{k}" for k in range(c)]
        ends = []
        for one in inputs[:, part]:  # one after the other: all nodal values at once may be many
            nodal = (space.features @ one).reshape(-1, c)
            ends.append((nodal.min(axis=0), nodal.max(axis=0)))
        low.append(np.min([a for a, _ in ends], axis=0))
        high.append(np.max([b for _, b in ends], axis=0))
    return tuple(names), np.concatenate(low), np.concatenate(high)


def _spread(coefficients: Floats, remainders: Floats) -> float:
    square = float(((coefficients**2).sum(axis=1) + remainders).mean())
    return np.sqrt(square) if square > 0 else 1.0


def _left_out(squares: Floats, n: int) -> Floats:
    """Return the squared Mahalanobis distance of each of n samples to the others, without it.

    Args:
        squares: (n,) squared distances to mean and covariance of all of them. By the formula of Sherman and
            Morrison for a covariance without one sample.
        n: samples.
    """
    q = squares / (n - 1)
    return np.asarray((n / (n - 1)) ** 2 * (n - 2) * q / np.maximum(1.0 - n * q / (n - 1), 1e-12))
