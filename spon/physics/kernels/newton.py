"""Newton's method for batches, in load steps, with a line search on the energy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spon.errors import SponError
from spon.physics.kernels.cg import conjugate_gradients
from spon.physics.kernels.cycle import Cycle
from spon.physics.kernels.line_search import backtrack

__all__ = ["Newton"]

_STEPS = 40
_ON_THE_WAY = 1e-2  # residual, relative, at which the next load step is taken
_NEAR = 0.1  # relative residual below which the cycle of the tangent before serves further steps
_BISECTIONS = 6


class Newton:
    """Find u = Z û + t u_g with Zᵀ(F₀(u; m) − t load) = 0, t raised to 1 in the load steps of the physics.

    A load step in which a sample does not converge is halved for that sample; all but the last stop at 1e-2.
    Each linear solve goes just as far as quadratic convergence needs (Dembo, Eisenstat & Steihaug 1982,
    SIAM J. Numer. Anal. 19, 400); directions of negative curvature end it early, and the line search on the
    energy keeps cells from folding. Near the solution the cycle of an earlier tangent is kept.

    Args:
        solver: a `MultigridSolver`.
        rtol: of √(rᵀBr) over that of the load, or of the first residual where that is larger.
        maxiter: of each linear solve.
    """

    def __init__(self, solver: Any, rtol: float, maxiter: int) -> None:
        self.solver, self.rtol, self.maxiter = solver, rtol, maxiter

    def __call__(
        self, rhs: Tensor, m: Tensor, shift: Tensor, guess: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Solve, from zero load or from a guess at the full load.

        Args:
            rhs: (batch, DoFs) added to the load.
            m: (batch, DoFs of all inputs).
            shift: (batch, DoFs) u_g.
            guess: (batch, DoFs), or None.

        Returns:
            (batch, DoFs), and the fields of a `SolverInfo`.
        """
        batch = len(m)
        self.load, self.m, self.shift = rhs + self.solver.kernel.load(m), m, shift
        counts = {name: torch.zeros(batch, dtype=torch.int64, device=m.device) for name in _COUNTS}
        self.counts = counts
        self.reduction = torch.full((batch,), torch.inf, dtype=m.dtype, device=m.device)
        everyone = torch.arange(batch, device=m.device)
        if guess is None:
            self.u = torch.zeros_like(shift)
            steps = self.solver.kernel.physics.load_steps
            remaining = everyone
            for k in range(steps):
                remaining = self._advance(remaining, k / steps, (k + 1) / steps, _BISECTIONS)
            done = remaining
        else:
            self.u = shift + self.solver.Z(self.solver.free(guess - shift)).T
            done = self._newton(everyone, 1.0)
        converged = torch.zeros(batch, dtype=torch.bool, device=m.device)
        converged[done] = True
        return self.u, {"reduction": self.reduction, "converged": converged, **counts}

    def _advance(self, samples: Tensor, start: float, end: float, bisections: int) -> Tensor:
        """Raise the load; return the samples that converged."""
        if not len(samples):
            return samples
        kept = self.u[samples]
        # a guess for boundary data that grow: in proportion
        self.u[samples] = kept + (end - start) * self.shift[samples]
        good = self._newton(samples, end)
        failed = samples[~torch.isin(samples, good)]
        self.counts["load_steps"][good] += 1
        if not len(failed) or not bisections:
            return good
        self.u[failed] = kept[torch.isin(samples, failed)]
        middle = (start + end) / 2
        halfway = self._advance(failed, start, middle, bisections - 1)
        again = self._advance(halfway, middle, end, bisections - 1)
        return torch.cat([good, again]).sort().values

    def _newton(self, samples: Tensor, t: float) -> Tensor:
        """Take Newton steps at load t; return the samples that converged."""
        solver, kernel = self.solver, self.solver.kernel
        done: list[Tensor] = []
        reference: Tensor | None = None
        before: Cycle | None = None
        rtol = self.rtol if t == 1.0 else max(self.rtol, _ON_THE_WAY)
        for _ in range(_STEPS):
            u, m, load = self.u[samples], self.m[samples], t * self.load[samples]
            force = solver.reduced(kernel.forces(u, m) - load)
            finite = force.isfinite().all(dim=0)
            if not bool(finite.all()):
                samples, u, m, load = samples[finite], u[finite], m[finite], load[finite]
                force = force[:, finite]
                reference = None if reference is None else reference[finite]
                before = None if before is None else before.select(finite.nonzero()[:, 0])
                if not len(samples):
                    break
            cycle: Cycle = self._cycle(u, m) if before is None else before
            z = cycle(force)
            square = (force * z).sum(dim=0)
            if bool((square < 0).any()):
                cycle = solver.prepare(m)
                z = cycle(force)
                square = (force * z).sum(dim=0)
            size = square.clamp_min(0.0).sqrt()
            if reference is None:
                scale = solver.reduced(load)
                scale = (scale * cycle(scale)).sum(dim=0).clamp_min(0.0).sqrt()
                reference = torch.maximum(scale, size)
            small = size <= rtol * reference
            self.reduction[samples] = size / torch.where(reference > 0, reference, torch.ones_like(reference))
            if bool(small.any()):
                done.append(samples[small])
                kept = (~small).nonzero()[:, 0]
                samples, u, m, load = samples[kept], u[kept], m[kept], load[kept]
                force, z, size, reference = force[:, kept], z[:, kept], size[kept], reference[kept]
                cycle = cycle.select(kept)
                if not len(samples):
                    break
            reached = size / reference
            inner = torch.minimum(reached, torch.full_like(reached, 0.01)).clamp_min(1e-8)
            inner = torch.maximum(inner, 0.1 * rtol / reached)
            step, how = conjugate_gradients(
                solver.action(u, m), cycle, -force, inner, None, self.maxiter, truncate=True, first=-z
            )
            self.counts["iterations"][samples] += how.iterations
            self.counts["newton"][samples] += 1
            moved, ok = self._search(u, m, load, force, step)
            self.u[samples] = moved
            samples, reference = samples[ok], reference[ok]
            if not len(samples):
                break
            before = cycle.select(ok.nonzero()[:, 0]) if bool((reached < _NEAR).all()) else None
        return torch.cat(done).sort().values if done else samples[:0]

    def _search(
        self, u: Tensor, m: Tensor, load: Tensor, force: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Halve the steps of samples until their energy falls; return u, and which samples found such."""
        slope, work = (force * step).sum(dim=0), (load * u).sum(dim=1)
        return backtrack(lambda at: self._energy(at, m, load), u, self.solver.Z(step).T, slope, work)

    def _energy(self, u: Tensor, m: Tensor, load: Tensor) -> Tensor:
        kernel = self.solver.kernel
        return kernel.energy(u, m) + ((kernel.load(m) - load) * u).sum(dim=1)

    def _cycle(self, u: Tensor, m: Tensor) -> Cycle:
        """Return the cycle at u, or at zero where that is not positive definite for all samples."""
        try:
            cycle: Cycle = self.solver.prepare(m, u)
        except SponError:
            cycle = self.solver.prepare(m)
        return cycle


_COUNTS = ("iterations", "newton", "load_steps")
