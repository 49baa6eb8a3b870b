"""Fit convex potentials: the best of many random terms by non-negative least squares, then all parameters."""

from __future__ import annotations

import math

import scipy.optimize
import torch
from torch import Tensor

from spon.multiscale.convex_terms import Terms, upper
from spon.multiscale.levenberg_marquardt import levenberg_marquardt
from spon.multiscale.sobolev import SobolevLabels

__all__ = ["fit_terms"]

_CANDIDATES, _DIRECTIONS, _SAMPLES = 600, 40, 200
_OFFSETS = (1e-4, 20.0)
_JITTER = 1e-9  # of a factor's mean square, so that it has a triangular form


def fit_terms(found: SobolevLabels, terms: int, iterations: int, seed: int) -> tuple[Terms, Tensor]:
    """Return terms and the factor R, (n, n), of a quadratic part ½ |R x|² that fit labels together.

    For given terms their scales are a convex problem, and non-negative least squares chooses from a crowd
    of candidates those that count; the largest of them are where Levenberg and Marquardt's method starts.
    From random terms alone it ends in poor local minima.

    Args:
        found: labels.
        terms: largest number of terms.
        iterations: of Levenberg and Marquardt's method.
        seed: of the candidates.
    """
    generator = torch.Generator().manual_seed(seed)
    start, factor = _chosen(found, terms, generator)
    columns = start.parameters.shape[1]

    def apart(z: Tensor) -> tuple[Terms, Tensor]:
        count = z.numel() - factor.numel()
        return Terms(z[:count].reshape(-1, columns)), z[count:]

    def residual(z: Tensor) -> Tensor:
        terms, entries = apart(z)
        value = terms.derivatives(found.x).sum(0)
        return found.flat(found.target - value - found.quadratics(upper(entries, found.size)[None])[0])

    def linearised(z: Tensor) -> tuple[Tensor, Tensor]:
        terms, entries = apart(z)
        value, slopes = terms.sensitivities(found.x)
        quadratic, more = _quadratic_sensitivities(found, upper(entries, found.size))
        rows = [found.flat(slopes).flatten(0, 1), found.flat(more)]
        return found.flat(found.target - value.sum(0) - quadratic), torch.cat(rows)

    def allowed(z: Tensor) -> Tensor:
        terms, entries = apart(z)
        parameters = terms.parameters.clone()
        parameters[:, -1].clamp_(math.log(_OFFSETS[0]), math.log(_OFFSETS[1]))
        return torch.cat([parameters.reshape(-1), entries])

    z = torch.cat([start.parameters.reshape(-1), factor])
    best, entries = apart(levenberg_marquardt(residual, linearised, allowed(z), iterations, allowed))
    return best, upper(entries, found.size)


def _chosen(found: SobolevLabels, count: int, generator: torch.Generator) -> tuple[Terms, Tensor]:
    """Return the candidates that count most, scaled, and the entries of the quadratic part's factor."""
    few = found.first(_SAMPLES)
    candidates, directions = _candidates(found, generator), _directions(found, generator)
    values = [candidates.derivatives(few.x), few.quadratics(directions[:, None])]
    columns = few.flat(torch.cat(values))
    norms = columns.norm(dim=1).clamp_min(torch.finfo(columns.dtype).tiny)
    matrix = (columns / norms[:, None]).T.numpy()
    shares, _ = scipy.optimize.nnls(matrix, few.flat(few.target).numpy(), maxiter=50 * matrix.shape[1])
    shares = torch.as_tensor(shares)
    scales = shares / norms
    of_terms = shares[: len(candidates.parameters)]
    order = of_terms.argsort(descending=True)[:count]
    order = order[of_terms[order] > 0]
    terms = Terms(candidates.parameters[order]).scaled(scales[order])
    root = scales[len(of_terms) :, None].sqrt() * directions
    return terms, _triangular((root.T @ root)[None])[0]


def _candidates(found: SobolevLabels, generator: torch.Generator) -> Terms:
    """Return terms that bend at strains of all sizes and shapes, sharply or smoothly."""
    n, count = found.size, _CANDIDATES
    A = torch.randn(count, n, n, generator=generator, dtype=torch.float64)
    ranks = 1 + torch.arange(count) % n
    A *= (torch.arange(n) < ranks[:, None])[:, :, None]
    A += 0.01 * torch.randn(count, n, n, generator=generator, dtype=torch.float64)
    A /= (A @ found.x).square().sum(1).mean(1).sqrt()[:, None, None]
    size, offset = torch.rand(2, count, generator=generator, dtype=torch.float64)
    log_offset = (2 * offset - 1.5) * math.log(10)
    log_size = (2 * size - 1) * math.log(10) - torch.log1p(log_offset.exp())
    return Terms(torch.cat([_triangular(A.mT @ A), torch.stack([log_size, log_offset], 1)], 1))


def _directions(found: SobolevLabels, generator: torch.Generator) -> Tensor:
    """Return unit terms of the quadratic part, (terms, n): about the stiffest direction, and the others."""
    vectors = torch.linalg.eigh(found.mean_hessian())[1].T
    noise = torch.randn(3, _DIRECTIONS, found.size, generator=generator, dtype=torch.float64)
    spread = torch.tensor([0.003, 0.02, 0.1], dtype=torch.float64)[:, None, None]
    return torch.cat([vectors, (vectors[-1] + spread * noise).flatten(0, 1)])


def _triangular(squares: Tensor) -> Tensor:
    """Return the entries of R, RᵀR = squares, (terms, n, n), row by row."""
    n = squares.shape[-1]
    i, j = torch.triu_indices(n, n)
    mean = squares.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(squares.dtype).tiny)
    jitter = _JITTER * mean[:, None, None] * torch.eye(n, dtype=squares.dtype)
    return torch.linalg.cholesky(squares + jitter).mT[:, i, j]


def _quadratic_sensitivities(found: SobolevLabels, R: Tensor) -> tuple[Tensor, Tensor]:
    """Return derivatives of ½ |R x|², and d of them / d entries of R."""
    n = found.size
    i, j = torch.triu_indices(n, n)
    half = upper(torch.eye(len(i), dtype=R.dtype), n).mT @ R
    changes = half + half.mT
    curvature = changes[:, i, j, None].expand(-1, -1, found.x.shape[1])
    return found.quadratics(R[None])[0], torch.cat([changes @ found.x, curvature], 1)
