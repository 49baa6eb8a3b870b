"""Principal components in a mass inner product, and ridge parameters from the data alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp

from spon.discretisation import Discretisation

__all__ = ["Pod", "input_mass", "pod", "ridge_parameter", "unknown_mass"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pod:
    """Samples Y = U diag(s) Wᵀ with UᵀU = 1 and WᵀMW = 1.

    Args:
        left: (samples, rank) U.
        values: (rank,) s, largest first, all above round-off.
        modes: (DoFs, rank) W, each with its largest entry positive.
    """

    left: Floats
    values: Floats
    modes: Floats


def pod(samples: Floats, mass: sp.csr_array) -> Pod:
    """Decompose samples in the inner product of M: proper orthogonal decomposition.

    By a QR factorisation of the samples, not by their Gram matrix, so that small singular values keep
    their digits. What is below round-off of the largest is dropped.

    Args:
        samples: (samples, DoFs) float64.
        mass: (DoFs, DoFs) M, symmetric positive definite.
    """
    q, r = scipy.linalg.qr(samples.T, mode="economic")
    factor = scipy.linalg.cholesky(q.T @ (mass @ q), lower=True)
    left, values, right = scipy.linalg.svd(factor.T @ r, full_matrices=False)
    tolerance = max(samples.shape) * np.finfo(np.float64).eps * values.max(initial=0.0)
    rank = int(np.count_nonzero(values > tolerance))
    modes = q @ scipy.linalg.solve_triangular(factor, left[:, :rank], trans="T", lower=True)
    sign = np.sign(modes[np.abs(modes).argmax(axis=0), np.arange(rank)])
    return Pod(right[:rank].T * sign, values[:rank], modes * sign)


def ridge_parameter(values: Floats, explained: Floats, rest: float, samples: int) -> float:
    """Return the ridge parameter with the least generalised cross-validation error.

    GCV(λ) = ‖y − y_λ‖² / (samples − trace of the map from y to y_λ)² (Golub, Heath & Wahba 1979,
    Technometrics 21), for centred data, over 24 decades of λ.

    Args:
        values: (rank,) singular values of the inputs, at least one.
        explained: (rank,) squared size of the outputs along each left singular vector.
        rest: squared size of the outputs across all of them.
        samples: their number.

    Returns:
        λ > 0 in (XᵀX + λ)⁻¹ XᵀY.
    """
    candidates = values[0] ** 2 * np.logspace(-24, 1, 101)
    left_over = candidates[:, None] / (values**2 + candidates[:, None])
    freedom = samples - 1 - len(values) + left_over.sum(axis=1)
    return float(candidates[np.argmin((left_over**2 @ explained + rest) / freedom**2)])


def input_mass(discretisation: Discretisation) -> sp.csr_array:
    """Return the mass matrix of all inputs, each a block of trace 1, so that all weigh alike."""
    masses = [space.mass for space in discretisation.inputs.values()]
    return sp.csr_array(sp.block_diag([mass / mass.diagonal().sum() for mass in masses]))


def unknown_mass(discretisation: Discretisation) -> sp.csr_array:
    """Return the mass matrix ZᵀMZ of the unknowns û."""
    Z = discretisation.constraint.Z
    return sp.csr_array(Z.T @ discretisation.output.mass @ Z)
