"""Certificates and corrections of batches, with the operator of each sample; no DOLFINx here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.physics.kernels.certificate import Certificate, Certified
from spon.physics.kernels.cg import conjugate_gradients
from spon.physics.kernels.dual_norm import DualNorm
from spon.physics.kernels.physics import Physics
from spon.physics.kernels.solver import MultigridSolver

__all__ = ["CorrectedBatch", "KernelCertificate"]

_LEAST = 3  # iterations of CG before its Ritz values say anything
_BATCH = 64  # samples at a time
_RITZ = 0.25  # share of the least Ritz value that the least eigenvalue of BA is taken to exceed
_EXPECTED = 0.5  # least eigenvalue of BA that the first round counts on; the residual is what decides
_ROUNDS = 4  # of a solve and a look at the residual, computed anew
_NEWTON_RTOL = 1e-10  # least in the first round
_INNER_RTOL = 1e-2  # of the Newton correction that is measured


@dataclass(frozen=True)
class CorrectedBatch:
    """Fields within the tolerance.

    Args:
        values: (batch, DoFs) float64.
        corrected: (batch,) bool, false where the prediction was good enough and was kept.
        iterations: (batch,) int64, of conjugate gradients; zero where nothing was corrected.
        bound: (batch,) on the relative energy error where it was corrected; else `Certified.upper`.
        from_zero: (batch,) int64, iterations to the same tolerance from zero; None unless asked for.
    """

    values: Tensor
    corrected: Tensor
    iterations: Tensor
    bound: Tensor
    from_zero: Tensor | None = None


class KernelCertificate(Certificate):
    """Certify predictions by η, with one multigrid cycle of the sample's own operator, and correct them.

    Without `calibrate` estimates are η / ‖u‖_E. All is of the discrete problem.

    Linear problems are corrected by conjugate gradients, preconditioned by the cycle B. The energy error is
    at most (rᵀBr / μ)^½ for every μ ≤ λ_min(BA) (Meurant & Tichý 2019, Numer. Algorithms 82); μ is a quarter
    of the least Ritz value after three iterations or more, an estimate with a margin, and r is computed anew.
    Nonlinear ones by Newton's method, where 2‖δ‖, δ the next correction, bounds the error if later ones
    at least halve (Deuflhard 2011, Newton Methods for Nonlinear Problems, section 2.1). A prediction whose
    potential is not below that at rest is no better than none: these samples are solved in load steps.

    Args:
        discretisation: of the model.
        physics: of the data set, as `spon.load_physics` finds them in the file of a model.
        device: of all tensors.

    Attributes:
        solver: `MultigridSolver`.

    Raises:
        SponError: no physics, or a problem without multigrid levels; see `MultigridSolver`.
    """

    def __init__(
        self, discretisation: Discretisation, physics: Physics | None, device: torch.device | str = "cpu"
    ) -> None:
        self.solver = MultigridSolver(discretisation, physics, device=device)
        super().__init__(DualNorm(self.solver.kernel, self.solver.cycle))

    @torch.no_grad()
    def __call__(self, u: Tensor, m: Tensor) -> Certified:
        """Certify; of a nonlinear problem η is infinite where the tangent at u is not positive definite.

        Args:
            u: (batch, DoFs) float64 with the right boundary values.
            m: (batch, DoFs of all inputs) float64.

        Raises:
            SponError: shapes that do not fit; a linear operator that is not positive definite.
        """
        starts = range(0, max(len(u), 1), _BATCH)
        each = [self._some(u[k : k + _BATCH], m[k : k + _BATCH]) for k in starts]
        return _joined([one for some in each for one in some])

    def _some(self, u: Tensor, m: Tensor) -> list[Certified]:
        try:
            return [super().__call__(u, m)]
        except SponError:
            if self.solver.kernel.linear:
                raise
        return [self._one(u[k : k + 1], m[k : k + 1]) for k in range(len(u))]

    def _one(self, u: Tensor, m: Tensor) -> Certified:
        self.solver.kernel.check(u, m)
        try:
            return super().__call__(u, m)
        except SponError:
            infinite = u.new_full((1,), torch.inf)
            return Certified(infinite, infinite, None if self.effectivity is None else infinite, "estimated")

    @torch.no_grad()
    def correct(
        self,
        u: Tensor,
        inputs: Tensor,
        shift: Tensor | None = None,
        tolerance: float = 1e-3,
        compare: bool = False,
    ) -> CorrectedBatch:
        """Solve from the predictions where `Certified.upper` exceeds the tolerance; without calibration, all.

        Args:
            u: (batch, DoFs) float64, predictions.
            inputs: (batch, DoFs of all inputs) float64.
            shift: (batch, DoFs) u_g of each sample; default: that of the discretisation.
            tolerance: of the energy error relative to the energy norm of the solution, between 0 and 1.
            compare: whether to solve the corrected samples once more, from zero, to count iterations.

        Raises:
            SponError: a tolerance out of range; a sample that misses it, with what was reached.
        """
        if not 0.0 < tolerance < 1.0:
            raise SponError(f"tolerance = {tolerance}; allowed: between 0 and 1")
        upper = self(u, inputs).upper
        poor = (
            torch.ones(len(u), dtype=torch.bool, device=u.device) if upper is None else ~(upper <= tolerance)
        )
        bound = u.new_full((len(u),), torch.inf) if upper is None else upper.clone()
        iterations = torch.zeros(len(u), dtype=torch.int64, device=u.device)
        values, from_zero = u.clone(), iterations.clone()
        shift = self.solver.shift.expand(len(u), -1) if shift is None else shift
        which = poor.nonzero()[:, 0]
        for some in which.split(_BATCH) if len(which) else ():
            m, g = inputs[some], shift[some]
            start = g + self.solver.Z(self.solver.free(u[some] - g)).T
            size = self._size(start, m)
            found = self._solved(start, m, g, tolerance, size, some)
            values[some], iterations[some], bound[some] = self.solver.centred(found[0]), *found[1:]
            if compare:
                from_zero[some] = self._solved(None, m, g, tolerance, size, some)[1]
        return CorrectedBatch(values, poor, iterations, bound, from_zero if compare else None)

    # ---------------------------------------------------------------------- inside

    def _size(self, u: Tensor, m: Tensor) -> Tensor:
        """Return ‖u‖_E, (batch,)."""
        tangent = self.solver.kernel.jacobian(None if self.solver.kernel.linear else u, m, u)
        return (tangent * u).sum(dim=1).clamp_min(0.0).sqrt()

    def _solved(
        self, start: Tensor | None, m: Tensor, shift: Tensor, tolerance: float, size: Tensor, names: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return fields, iterations and bounds; start None: û = 0, or for nonlinear problems no load."""
        share = tolerance / (1.0 + tolerance)  # of the norm of the field, for one of that of the solution
        u = (shift if start is None else start).clone()
        iterations = torch.zeros(len(u), dtype=torch.int64, device=u.device)
        bound, least = torch.full_like(size, torch.inf), torch.full_like(size, torch.inf)
        left = torch.arange(len(u), device=u.device)
        for k in range(_ROUNDS):
            if self.solver.kernel.linear:
                found = self._krylov(u[left], m[left], share, size[left], least[left])
                u[left], taken, bound[left], least[left] = found
            else:
                fresh = start is None and k == 0
                u[left], taken, bound[left] = self._newton(
                    None if fresh else u[left], m[left], shift[left], max(0.1 * share, _NEWTON_RTOL) * 0.1**k
                )
            iterations[left] += taken
            left = (~(bound <= share)).nonzero()[:, 0]
            if not len(left):
                return u, iterations, bound / (1.0 - bound)
            size[left] = self._size(u[left], m[left])
        worst = left[bound[left].argmax()]
        raise SponError(
            f"the tolerance {tolerance:g} was not reached: the relative energy error of sample "
            f"{int(names[worst])} of the batch is at most {float(bound[worst]):.3g} after "
            f"{int(iterations[worst])} iterations"
        )

    def _krylov(
        self, u: Tensor, m: Tensor, share: float, size: Tensor, least: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Solve A δ = −ZᵀF(u) until the error is near a share of the size; return u + Zδ, and how that is."""
        solver = self.solver
        cycle = solver.prepare(m)

        def residual(at: Tensor) -> tuple[Tensor, Tensor]:
            r = solver.reduced(-solver.kernel.residual(at, m))
            return r, (r * cycle(r)).sum(dim=0).clamp_min(0.0).sqrt()

        r, eta = residual(u)
        target = share * torch.maximum(size, eta - size)  # the solution is no smaller than ‖e‖ − ‖u‖
        wanted = target * (_RITZ * least.clamp_max(_EXPECTED)).sqrt()
        rtol = wanted / torch.where(eta > 0.0, eta, 1.0)
        delta, how = conjugate_gradients(solver.action(None, m), cycle, r, rtol, None, miniter=_LEAST)
        u = u + solver.Z(delta).T
        least = torch.minimum(least, how.least_ritz_value())
        _, eta = residual(u)
        return u, how.iterations, self._relative(eta / (_RITZ * least).sqrt(), u, m), least

    def _newton(
        self, u: Tensor | None, m: Tensor, shift: Tensor, rtol: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Solve by Newton's method, from zero where that fails; return fields, iterations and bounds."""
        solver = self.solver
        found, taken = shift.clone(), torch.zeros(len(m), dtype=torch.int64, device=m.device)
        below = torch.zeros_like(taken, dtype=torch.bool)
        if u is not None:
            below = solver.kernel.energy(u, m) < solver.kernel.energy(shift, m)
        failed = ~below
        if u is not None and bool(below.any()):
            rhs = torch.zeros_like(shift[below])
            found[below], info = solver.primal(rhs, m[below], shift[below], rtol, u[below], 200)
            taken[below] = info.iterations
            failed[below] = ~info.converged & (info.reduction > 1e-6)  # not of round-off
        if bool(failed.any()):
            rhs = torch.zeros_like(shift[failed])
            found[failed], info = solver.primal(rhs, m[failed], shift[failed], rtol, None, 200)
            taken[failed] += info.iterations
        force = solver.reduced(-solver.kernel.residual(found, m))
        cycle, action = solver.prepare(m, found), solver.action(found, m)
        delta, how = conjugate_gradients(action, cycle, force, _INNER_RTOL)
        length = (delta * action(None)(delta)).sum(dim=0).clamp_min(0.0).sqrt()
        return found, taken + how.iterations, self._relative(2.0 * length, found, m)

    def _relative(self, error: Tensor, u: Tensor, m: Tensor) -> Tensor:
        return torch.where(error > 0.0, error / self._size(u, m), 0.0)


def _joined(found: list[Certified]) -> Certified:
    columns = list(zip(*((c.eta, c.relative, c.upper) for c in found), strict=True))
    eta, relative = (torch.cat(column) for column in columns[:2])
    return Certified(eta, relative, None if columns[2][0] is None else torch.cat(columns[2]), "estimated")
