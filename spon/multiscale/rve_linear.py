"""Linear systems of an RVE: one factor serves many stiffnesses that are close to its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.multiscale.factorisation import factorisation

__all__ = ["StiffnessSolver", "conjugate_gradients"]

Floats = npt.NDArray[np.float64]

_CG_STEPS = 4  # more do not pay: a factorisation costs about six solves


class StiffnessSolver:
    """K x = b by conjugate gradients, preconditioned by the last factor; a new factor where they are slow.

    Args:
        pattern: (free, free) sparsity of all stiffnesses.

    Attributes:
        matrix: K.
        factorisations: how many were made.
    """

    def __init__(self, pattern: sp.csr_array) -> None:
        self._factor = factorisation(pattern)
        self.matrix = pattern.copy()
        self.factorisations = 0

    def load(self, values: Floats) -> None:
        """Take the values of K, in the order of the pattern."""
        self.matrix.data = values

    def refactor(self) -> None:
        """Factorise K.

        Raises:
            NotPositiveDefinite: it has no Cholesky factors.
        """
        self._factor.update(self.matrix.data)
        self.factorisations += 1

    def solve(self, rhs: Floats, tolerance: float | Floats, start: Floats | None = None) -> Floats:
        """Return x, (free, m).

        Args:
            rhs: (free, m).
            tolerance: residual relative to b, of all columns or for each.
            start: (free, m) to start from.

        Raises:
            NotPositiveDefinite: K has to be factorised, and has no Cholesky factors.
        """
        target = tolerance * np.linalg.norm(rhs, axis=0)
        x, found = conjugate_gradients(self.matrix, self._factor.solve, rhs, target, _CG_STEPS, start)
        if not found:
            self.refactor()
            x = self._factor.solve(rhs)
        return x


def conjugate_gradients(
    A: sp.csr_array,
    B: Callable[[Floats], Floats],
    rhs: Floats,
    target: Floats,
    steps: int,
    start: Floats | None = None,
) -> tuple[Floats, bool]:
    """Solve A x = b for several b, each with its own step lengths; a column that is solved is left alone.

    Args:
        A: (n, n), symmetric positive definite.
        B: preconditioner, (n, m) → (n, m).
        rhs: (n, m).
        target: (m,) Euclidean residuals.
        steps: at most.
        start: (n, m); default: zero.

    Returns:
        x, and whether the targets were met.
    """
    x = np.zeros_like(rhs) if start is None else start.copy()
    r = rhs.copy() if start is None else rhs - A @ x
    directions, last = np.zeros_like(rhs), np.ones(rhs.shape[1])
    for step in range(steps + 1):
        left = np.flatnonzero(~(np.linalg.norm(r, axis=0) <= target))  # also where it is nan
        if not len(left):
            return x, True
        if step == steps:
            break
        rest = r[:, left]
        z = B(rest)
        product = (rest * z).sum(axis=0)
        direction = z + (product / last[left] if step else 0.0) * directions[:, left]
        image = A @ direction
        curvature = (direction * image).sum(axis=0)
        if not (curvature > 0).all():  # A is not positive definite, or nothing is left: the factor decides
            return x, False
        length = product / curvature
        x[:, left] += length * direction
        r[:, left] = rest - length * image
        directions[:, left], last[left] = direction, np.maximum(product, 1e-300)
    return x, False
