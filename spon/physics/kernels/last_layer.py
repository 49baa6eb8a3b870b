"""Refinement of predictions in what the last layer of their own network spans."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from spon.physics.kernels.refinement import Refinement
from spon.physics.kernels.solver import MultigridSolver

__all__ = ["LastLayerRefinement"]

_DEPENDENT = 1e-12  # least eigenvalue of the Gram matrix, of its largest: below it is round-off


class _Model(Protocol):
    fingerprint: str

    def last_features(self, inputs: Tensor, shift: Tensor | None = None, /) -> Tensor:
        """Return homogeneous admissible functions, (features, batch, DoFs) float64."""


class LastLayerRefinement(Refinement):
    """Least energy over the parameters of the network's last linear layer, for each sample by itself.

    With the other layers frozen, the network is u + Σ_j c_j φ_j with functions φ_j of the sample, and the
    residual in the natural dual norm of a linear problem is least where ΦᵀJΦ c = Φᵀr (Cao, Brarda, Li &
    Xi 2024, Spectral-Refiner, arXiv 2405.17211, who minimise it by iteration). One more pass through the
    network, one product with the operator for each feature, and a small dense system, in float64; scaled to a
    unit diagonal, and without its directions of energy below round-off, so that features may be dependent.

    Args:
        model: such as a `spon.OperatorNetwork`, with a processor that has `last_features`.
        solver: of its discretisation and equations.

    Raises:
        SponError: a model of another discretisation; when called, a processor without a last linear layer.
    """

    batch: ClassVar[int] = 8  # each with all its features

    def __init__(self, model: _Model, solver: MultigridSolver) -> None:
        super().__init__(solver)
        solver.kernel.discretisation.require(model.fingerprint, "the model")
        self.model = model

    def _step(self, u: Tensor, m: Tensor, shift: Tensor, residual: Tensor) -> Tensor:
        features = self.model.last_features(m, shift)
        J = self.solver.kernel.linearise(self._jacobian_state(u), m)
        images = torch.stack([J(one) for one in features])
        gram = torch.einsum("ibn,jbn->bij", features, images)
        c = _solved(gram, torch.einsum("ibn,bn->bi", features, residual))
        return torch.einsum("bi,ibn->bn", c, features)


def _solved(gram: Tensor, rhs: Tensor) -> Tensor:
    """Return the c of least norm with G c = b, (batch, n), on the eigenvectors of G that are not round-off.

    Zero where the matrix has entries that are no numbers, as of a body with folded cells.
    """
    finite = gram.isfinite().all(dim=2).all(dim=1) & rhs.isfinite().all(dim=1)
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    gram, rhs = torch.where(finite[:, None, None], gram, eye), torch.where(finite[:, None], rhs, 0.0)
    size = gram.diagonal(dim1=1, dim2=2)
    scale = torch.where(size > 0, size, torch.inf).rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, :, None] * gram * scale[:, None, :])
    kept = values > _DEPENDENT * values[:, -1:].clamp_min(0.0)
    inverse = torch.where(kept, 1.0 / torch.where(kept, values, 1.0), 0.0)
    turned = torch.einsum("bij,bi->bj", vectors, scale * rhs)
    return scale * torch.einsum("bij,bj->bi", vectors, inverse * turned)
