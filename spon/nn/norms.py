"""Finite-element norms of batches, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.sparse import SparseMap

__all__ = ["NORMS", "GramNorm", "relative_error"]

NORMS = ("l2", "h1")


class GramNorm(nn.Module):
    """‖u‖² = uᵀ G u for every sample, in float64.

    Args:
        discretisation: whose finest level has the Gram matrices.
        norm: "l2" (mass matrix M) or "h1" (M + K, the full H1 norm).

    Raises:
        SponError: another norm.
    """

    def __init__(self, discretisation: Discretisation, norm: str) -> None:
        super().__init__()
        if norm not in NORMS:
            raise SponError(f"norm '{norm}'; allowed: {', '.join(NORMS)}")
        level = discretisation.levels[0]
        gram = level.mass if norm == "l2" else level.mass + level.stiffness
        self.gram = SparseMap(gram, torch.float64)

    def forward(self, u: Tensor) -> Tensor:
        """Return the norm of every sample.

        Args:
            u: (batch, DoFs) float64.

        Returns:
            (batch,) float64.
        """
        columns = u.T.contiguous()
        square = (columns * self.gram(columns)).sum(dim=0)
        return square.clamp_min(0.0).sqrt()


def relative_error(norm: GramNorm, predicted: Tensor, reference: Tensor) -> Tensor:
    """Return ‖predicted − reference‖ / ‖reference‖ for every sample, (batch,) float64."""
    ratio: Tensor = norm(predicted - reference) / norm(reference)
    return ratio
