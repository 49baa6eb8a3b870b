"""Trivial surrogates that a network must beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.data.dataset import Dataset
from spon.errors import SponError

__all__ = ["MeanOutput", "PodRegression"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


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
    cross-validation over the training samples, so that the baseline is at its best. Modes are found by the
    method of snapshots (Sirovich 1987): all that is needed of the fields are their inner products. Each
    of several inputs is divided by its standard deviation.

    Args:
        train: training samples, at least 10.
        logarithm: regress on the logarithm of the first input.

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
        spaces = list(train.discretisation.inputs.values())
        self._ends = np.cumsum([space.dofs for space in spaces])[:-1]
        self._scales = [1.0] * len(spaces)
        parts = np.split(self._transformed(train.inputs), self._ends, axis=1)
        # in one unit: a mass, such as the area, of an input that is a field, and of numbers
        volumes = [float(abs(space.mass).sum()) for space in spaces]
        self._scales = [
            1.0 / (float(p.std()) * np.sqrt(v) or 1.0) for p, v in zip(parts, volumes, strict=True)
        ]
        self._mass = sp.csr_array(sp.block_diag([space.mass for space in spaces]))
        self._x, self._y = self._transformed(train.inputs), train.outputs
        gram = self._x @ (self._mass @ self._x.T)
        output = self._y @ (train.discretisation.output.mass @ self._y.T)
        folds = np.arange(len(train)) % 5
        errors: dict[tuple[int, float], list[float]] = {}
        for fold in range(5):
            inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            modes = _Modes(gram[np.ix_(inside, inside)])
            for rank in (r for r in self.RANKS if r < len(inside)):
                for ridge in self.RIDGES:
                    weights = modes.weights(gram[np.ix_(outside, inside)], rank, ridge)
                    ratio = _relative(output, weights, inside, outside)
                    errors.setdefault((rank, ridge), []).append(float(ratio.mean()))
        _, self.rank, self.ridge = min((float(np.mean(e)), *key) for key, e in errors.items())
        self._modes = _Modes(gram)

    def _transformed(self, inputs: Array) -> Array:
        parts = np.split(inputs, self._ends, axis=1)
        if self._logarithm:
            parts[0] = np.log(parts[0])
        return np.concatenate([s * p for s, p in zip(self._scales, parts, strict=True)], axis=1)

    def predict(self, inputs: Array, *, shift: Array | None = None) -> Array:
        """Return (samples, DoFs) for inputs (samples, DoFs of all inputs); u_g plays no part."""
        products = self._transformed(inputs) @ (self._mass @ self._x.T)
        return self._modes.weights(products, self.rank, self.ridge) @ self._y


class _Modes:
    """Principal components of samples of which only the inner products (n, n) are known."""

    def __init__(self, gram: Array) -> None:
        self._mean, self._whole = gram.mean(axis=1), gram.mean()
        centred = gram - self._mean[:, None] - self._mean[None, :] + self._whole
        values, vectors = np.linalg.eigh(centred)
        self._values, self._vectors = values[::-1], vectors[:, ::-1]  # squares of the singular values

    def weights(self, products: Array, rank: int, ridge: float) -> Array:
        """Return (samples, n): how much of each known output is in the prediction.

        Args:
            products: (samples, n) of further samples with the known ones.
            rank: modes.
            ridge: relative to the largest value.
        """
        n = len(self._mean)
        centred = products - products.mean(axis=1, keepdims=True) - self._mean + self._whole
        square, modes = self._values[:rank], self._vectors[:, :rank]
        size = self._values[0] if self._values[0] > 0 else 1.0
        out = (centred @ modes) / (square + ridge * size) @ modes.T
        return np.asarray(out - out.mean(axis=1, keepdims=True) + 1.0 / n)


def _relative(output: Array, weights: Array, inside: Integers, outside: Integers) -> Array:
    """Return relative errors of Σ_j w_ij u_j against u_i from inner products of the u."""
    known, cross = output[np.ix_(inside, inside)], output[np.ix_(outside, inside)]
    size = output[outside, outside]
    square = size - 2.0 * (weights * cross).sum(axis=1) + ((weights @ known) * weights).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(square, 0.0) / size))
