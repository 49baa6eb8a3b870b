"""Finite-element norms of batches, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.nn.sparse import SparseMap

__all__ = ["NORMS", "GramNorm", "relative_error"]

NORMS = ("l2", "h1", "energy")


class GramNorm(nn.Module):
    """‖u‖² = uᵀ G u for every sample, in float64.

    Args:
        discretisation: whose output space has the Gram matrices.
        norm: "l2", "h1" (mass + stiffness: the full H1 norm, or the graph norm of H(div) and H(curl)),
            or "energy" if the discretisation has one.

    Raises:
        SponError: another norm, or a discretisation without energy.
    """

    def __init__(self, discretisation: Discretisation, norm: str) -> None:
        super().__init__()
        self.gram = SparseMap(discretisation.output.gram(norm), torch.float64)

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
