"""Trivial surrogates that a network must beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spon.data.dataset import Dataset
from spon.errors import SponError

__all__ = ["MeanOutput", "PodRegression"]

Array = npt.NDArray[np.float64]


class MeanOutput:
    """Predict the mean of the training outputs, whatever the input.

    Args:
        train: training samples.
    """

    def __init__(self, train: Dataset) -> None:
        self._mean = train.outputs.mean(axis=0)

    def predict(self, inputs: Array, *, shift: Array | None = None) -> Array:
        """Return (samples, DoFs) for inputs (samples, DoFs of all inputs); u_g plays no part."""
        return np.tile(self._mean, (len(inputs), 1))


class PodRegression:
    """Ridge regression between the POD coefficients of input and output, mass-weighted.

    Ranks and ridge parameter are those with the smallest relative L2 error in five-fold
    cross-validation over the training samples, so that the baseline is at its best.

    Args:
        train: training samples, at least 10.
        logarithm: regress on the logarithm of the input.

    Attributes:
        rank: modes of the input.
        ridge: parameter relative to the largest input variance.

    Raises:
        SponError: fewer than 10 samples.
    """

    RANKS = (4, 8, 16, 32, 64, 128)
    RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)

    def __init__(self, train: Dataset, logarithm: bool) -> None:
        if len(train) < 10:
            raise SponError(f"{len(train)} training samples; allowed: at least 10")
        self._logarithm = logarithm
        d = train.discretisation
        self._weight = np.sqrt(d.output.lumped_mass)
        self._input_weight = np.sqrt(np.concatenate([space.lumped_mass for space in d.inputs.values()]))
        x, y = self._transformed(train.inputs), train.outputs
        folds = np.arange(len(train)) % 5
        best = (np.inf, 0, 0.0)
        errors: dict[tuple[int, float], list[float]] = {}
        for fold in range(5):
            inside, outside = folds != fold, folds == fold
            pod = _Pod(x[inside], y[inside], self._input_weight)
            for rank in (r for r in self.RANKS if r < inside.sum()):
                for ridge in self.RIDGES:
                    difference = (pod.predict(x[outside], rank, ridge) - y[outside]) * self._weight
                    size = np.linalg.norm(y[outside] * self._weight, axis=1)
                    ratio = np.linalg.norm(difference, axis=1) / size
                    errors.setdefault((rank, ridge), []).append(float(ratio.mean()))
        for (rank, ridge), values in errors.items():
            best = min(best, (float(np.mean(values)), rank, ridge))
        _, self.rank, self.ridge = best
        self._pod = _Pod(x, y, self._input_weight)

    def _transformed(self, inputs: Array) -> Array:
        return np.log(inputs) if self._logarithm else inputs

    def predict(self, inputs: Array, *, shift: Array | None = None) -> Array:
        """Return (samples, DoFs) for inputs (samples, DoFs of all inputs); u_g plays no part."""
        return self._pod.predict(self._transformed(inputs), self.rank, self.ridge)


class _Pod:
    """Principal components of inputs; all output modes that the samples span."""

    def __init__(self, x: Array, y: Array, weight: Array) -> None:
        self._weight = weight
        self._x_mean, self._y_mean = x.mean(axis=0), y.mean(axis=0)
        left, self._values, self._modes = np.linalg.svd((x - self._x_mean) * weight, full_matrices=False)
        self._projected = left.T @ (y - self._y_mean)  # in an orthonormal basis the modes decouple

    def predict(self, x: Array, rank: int, ridge: float) -> Array:
        s = self._values[:rank]
        filtered = (s / (s**2 + ridge * self._values[0] ** 2))[:, None] * self._projected[:rank]
        coefficients = (x - self._x_mean) * self._weight @ self._modes[:rank].T
        return self._y_mean + coefficients @ filtered
