"""Preconditioned conjugate gradients for batches of systems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spon.errors import SponError
from spon.physics.kernels.cycle import Cycle

__all__ = ["Convergence", "conjugate_gradients"]

Action = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Convergence:
    """What a batched solve reached.

    Args:
        iterations: (batch,) int64.
        reduction: (batch,) norm √(rᵀBr) of the last residual, over that of the right-hand side; from a guess,
            over the energy norm of the iterate.
        converged: (batch,) bool.
        negative: (batch,) bool, where negative curvature, of A or of the cycle, ended the iteration.
        alpha: (iterations, batch) lengths of the steps, NaN where a sample took none.
        beta: (iterations, batch) shares of the directions that were kept, NaN likewise.
    """

    iterations: Tensor
    reduction: Tensor
    converged: Tensor
    negative: Tensor
    alpha: Tensor
    beta: Tensor

    def least_ritz_value(self) -> Tensor:
        """Return the least eigenvalue of BA on the space of the iterates, (batch,); infinite without any.

        It is that of the tridiagonal matrix which α and β make (Saad 2003, Iterative Methods for Sparse
        Linear Systems, section 6.7.3), and tends to the least eigenvalue of BA from above.
        """
        if not len(self.alpha):
            return torch.full_like(self.reduction, torch.inf)
        made = self.alpha > 0.0
        alpha, beta = torch.where(made, self.alpha, 1.0), torch.where(made, self.beta, 0.0)
        diagonal = 1.0 / alpha
        diagonal[1:] += beta[:-1] / alpha[:-1]
        diagonal = torch.where(made, diagonal, torch.inf)
        largest = torch.where(made, diagonal, 0.0).amax(dim=0)
        T = torch.diag_embed(torch.where(made, diagonal, 4.0 * largest).T)
        off = torch.where(made[1:], beta[:-1].sqrt() / alpha[:-1], 0.0).T
        T = T + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
        return torch.where(made.any(dim=0), torch.linalg.eigvalsh(T)[:, 0], torch.inf)


def conjugate_gradients(
    apply: Callable[[Tensor | None], Action],
    cycle: Cycle,
    rhs: Tensor,
    rtol: float | Tensor,
    guess: Tensor | None = None,
    maxiter: int = 200,
    truncate: bool = False,
    miniter: int = 0,
    first: Tensor | None = None,
) -> tuple[Tensor, Convergence]:
    """Solve A x = b for each column; converged samples leave the batch.

    Stops where √(rᵀBr) ≤ rtol √(bᵀBb), B the cycle: for B near A⁻¹ the energy norm of the error over that of
    the solution. From a guess, the right-hand side is rtol √(xᵀ(b − r)), that of the iterate, which takes no
    cycle. β is that of Polak and Ribière, which keeps the convergence when B is applied in lower precision
    (Golub & Ye 1999, SIAM J. Sci. Comput. 21, 1305).

    Args:
        apply: (samples or None for all) → the action of A on (n, samples).
        cycle: B.
        rhs: (n, batch).
        rtol: > 0, for all samples or (batch,).
        guess: (n, batch); default: zero.
        maxiter: ≥ 1.
        truncate: whether negative curvature ends the iteration of a sample, with the last iterate or
            the first direction, as Newton's method wants it; else it is an error.
        miniter: iterations that are made in any case where the residual is not zero.
        first: (n, batch), B b where it is known already, without a guess.

    Returns:
        (n, batch), and what was reached.

    Raises:
        SponError: negative curvature: A is not positive definite.
    """
    batch = rhs.shape[1]
    x = torch.zeros_like(rhs) if guess is None else guess.clone()
    out = torch.empty_like(rhs)
    act = apply(None)
    tolerance = torch.as_tensor(rtol, dtype=rhs.dtype, device=rhs.device).expand(batch)
    r = rhs.clone() if guess is None else rhs - act(x)
    z = cycle(r) if first is None else first
    rz = (r * z).sum(dim=0)
    size = (rz if guess is None else (x * (rhs - r)).sum(dim=0)).clamp_min(0.0).sqrt()
    iterations = torch.zeros(batch, dtype=torch.int64, device=rhs.device)
    negative = rz < 0
    reached = rz.clamp_min(0.0).sqrt()
    p, active = z, torch.arange(batch, device=rhs.device)
    steps: list[tuple[Tensor, Tensor]] = []
    for iteration in range(maxiter):
        going = reached[active] > (tolerance[active] * size[active] if iteration >= miniter else 0.0)
        going &= ~negative[active]
        if not bool(going.all()):
            out[:, active] = x
            active, kept = active[going], going.nonzero()[:, 0]
            x, r, p, rz, rhs = x[:, kept], r[:, kept], p[:, kept], rz[kept], rhs[:, kept]
            if not len(active):
                break
            cycle, act = cycle.select(kept), apply(active)
        Ap = act(p)
        curvature = (p * Ap).sum(dim=0)
        bad = ~(curvature > 0)
        if bool(bad.any()):
            if not truncate:
                sample = int(active[bad][0])
                raise SponError(
                    f"negative curvature {float(curvature[bad][0]):.3g} in sample {sample} of the batch: the "
                    "operator is not positive definite, and conjugate gradients cannot solve it"
                )
            negative[active[bad]] = True
            fresh = bad & (iterations[active] == 0)
            x = x + torch.where(fresh, p, torch.zeros_like(p))
        alpha = torch.where(bad, torch.zeros_like(rz), rz / torch.where(bad, torch.ones_like(rz), curvature))
        x = x + alpha * p
        before, r = r, r - alpha * Ap
        z = cycle(r)
        new = (r * z).sum(dim=0)
        beta = ((new - (before * z).sum(dim=0)) / rz).clamp_min(0.0)
        p, rz = z + beta * p, new
        steps.append((_spread(alpha, active, batch), _spread(beta, active, batch)))
        iterations[active] += 1
        reached[active] = new.clamp_min(0.0).sqrt()
        negative[active[new < 0]] = True
        if guess is not None:
            size[active] = (x * (rhs - r)).sum(dim=0).clamp_min(0.0).sqrt()
    out[:, active] = x
    reduction = reached / torch.where(size > 0, size, torch.ones_like(size))
    good = (reached <= tolerance * size) & ~negative
    alphas, betas = (torch.stack(one) for one in zip(*steps, strict=True)) if steps else (rhs[:0], rhs[:0])
    return out, Convergence(iterations, reduction, good, negative, alphas, betas)


def _spread(values: Tensor, active: Tensor, batch: int) -> Tensor:
    """Return (batch,) with values of the active samples, NaN elsewhere."""
    return values.new_full((batch,), torch.nan).index_copy(0, active, values)
