"""Solve batches of samples by multigrid, each with the operator of its own sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.sparse import SparseMap
from spon.physics.kernels.base import Kernel
from spon.physics.kernels.cg import Action, conjugate_gradients
from spon.physics.kernels.cycle import Cycle, VCycle
from spon.physics.kernels.make import make_kernel
from spon.physics.kernels.newton import Newton
from spon.physics.kernels.physics import Physics

__all__ = ["MultigridSolver", "SolverInfo"]


@dataclass(frozen=True)
class SolverInfo:
    """What a batched solve took and reached, (batch,) each.

    Args:
        iterations: of conjugate gradients; for nonlinear problems, of all Newton steps together.
        reduction: norm √(rᵀBr) of the residual, B a cycle, over that of the right-hand side or, of a linear
            problem from a guess, over the energy norm of û.
        converged: whether `reduction` is below the tolerance.
        newton: Newton steps; zero for linear problems.
        load_steps: that converged; zero for linear problems.
    """

    iterations: Tensor
    reduction: Tensor
    converged: Tensor
    newton: Tensor
    load_steps: Tensor


class MultigridSolver(nn.Module):
    """Solve F(u; m) = 0, u = Z û + u_g, for batches: PCG with V-cycles, inside Newton's method where needed.

    The levels are those of the discretisation; see `VCycle`. Iterates have the type of the kernel, the
    cycles inside `cycle_dtype`.

    Args:
        discretisation: levels, constraint and Lagrange output.
        physics: of the data set.
        cycle_dtype: float32 halves the memory traffic of the cycles, and costs no accuracy.
        steps: Chebyshev steps before and after each coarse correction, ≥ 1.
        device: of all tensors.

    Attributes:
        kernel: residual and Jacobian, float64.

    Raises:
        SponError: as `make_kernel` and `VCycle` do.
    """

    shift: Tensor

    def __init__(
        self,
        discretisation: Discretisation,
        physics: Physics | None,
        cycle_dtype: torch.dtype = torch.float32,
        steps: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        if steps < 1:
            raise SponError(f"steps = {steps}; allowed: >= 1")
        d = discretisation
        self.kernel: Kernel = make_kernel(d, physics)
        self.hierarchy = VCycle(d, self.kernel.factor, not self.kernel.linear, cycle_dtype, steps)
        Z = d.constraint.Z
        self.Z = SparseMap(Z, torch.float64)
        self.register_buffer("shift", torch.as_tensor(d.constraint.shift), persistent=False)
        gram = Z.T @ Z
        self.register_buffer("gram", torch.as_tensor(gram.diagonal()), persistent=False)
        if d.zero_mean is not None:
            for name in ("weights", "constant"):
                tensor = torch.as_tensor(getattr(d.zero_mean, name))
                self.register_buffer(f"mean_{name}", tensor, persistent=False)
        self.to(device)

    # ---------------------------------------------------------------------- public

    def prepare(self, m: Tensor, u: Tensor | None = None) -> Cycle:
        """Return the cycle of a batch, on unknowns û; keep it where several residuals have the same m.

        Args:
            m: (batch, DoFs of all inputs) float64.
            u: (batch, DoFs) where nonlinear kernels are linearised; default: zero.

        Raises:
            SponError: an operator that is not positive definite.
        """
        if u is None and not self.kernel.linear:
            u = m.new_zeros(len(m), self.kernel.discretisation.dofs)
        with torch.no_grad():
            return self.hierarchy.prepare(self.kernel.cell_moduli(u, m))

    def cycle(self, rhs: Tensor, m: Tensor, u: Tensor | None = None, prepared: Cycle | None = None) -> Tensor:
        """Return Z B Zᵀ rhs, B one V-cycle: symmetric positive definite on admissible functions.

        Args:
            rhs: (batch, DoFs) a residual, a dual vector.
            m: (batch, DoFs of all inputs).
            u: as for `prepare`.
            prepared: what `prepare` returned for the same m.

        Returns:
            (batch, DoFs): near J⁻¹ rhs, zero where values are prescribed.
        """
        prepared = self.prepare(m, u) if prepared is None else prepared
        with torch.no_grad():
            out: Tensor = self.Z(prepared(self.Z.transposed(rhs.T))).T
        return out

    def solve(
        self,
        rhs: Tensor | None,
        m: Tensor,
        rtol: float = 1e-10,
        guess: Tensor | None = None,
        maxiter: int = 200,
        shift: Tensor | None = None,
        strict: bool = True,
    ) -> tuple[Tensor, SolverInfo]:
        """Solve for a batch. Differentiable in rhs, m and shift, by an adjoint solve.

        Args:
            rhs: (batch, DoFs) dual vectors to be added to the load of the problem; None: nothing.
            m: (batch, DoFs of all inputs) float64.
            rtol: of `SolverInfo.reduction`, > 0.
            guess: (batch, DoFs) where to start, such as a prediction; default: zero.
            maxiter: iterations of each linear solve.
            shift: (batch, DoFs) u_g of each sample, as `Discretisation.with_boundary_data` gives them;
                default: that of the constraint.
            strict: whether a sample that does not converge is an error.

        Returns:
            (batch, DoFs) u, and what was reached.

        Raises:
            SponError: shapes or types that do not fit; an operator that is not positive definite; with
                `strict`, a sample that did not converge.
        """
        kernel, batch = self.kernel, len(m)
        shift = self.shift.expand(batch, -1) if shift is None else shift
        rhs = torch.zeros_like(shift) if rhs is None else rhs
        for what, values in (("rhs", rhs), ("shift", shift), ("guess", shift if guess is None else guess)):
            if values.shape != (batch, kernel.discretisation.dofs) or values.dtype != torch.float64:
                raise SponError(
                    f"{what} of shape {tuple(values.shape)}, {values.dtype}; allowed: "
                    f"({batch}, {kernel.discretisation.dofs}), float64"
                )
        if not rtol > 0 or maxiter < 1:
            raise SponError(f"rtol = {rtol}, maxiter = {maxiter}; allowed: rtol > 0, maxiter >= 1")
        kernel.check(shift, m)
        found: list[SolverInfo] = []
        u = _Implicit.apply(rhs, m, shift, self, rtol, guess, maxiter, found)
        if strict and not bool(found[0].converged.all()):
            bad = int((~found[0].converged).nonzero()[0])
            raise SponError(
                f"sample {bad} of the batch did not converge: residual {float(found[0].reduction[bad]):.3g} "
                f"of the first after {int(found[0].iterations[bad])} iterations; asked for: {rtol:g}"
            )
        return self.centred(u), found[0]

    # ---------------------------------------------------------------------- inside

    def centred(self, u: Tensor) -> Tensor:
        """Return u (batch, DoFs) with mean zero, where the discretisation asks for it."""
        if hasattr(self, "mean_weights"):
            u = u - (u @ self.mean_weights)[:, None] * self.mean_constant
        return u

    def free(self, u: Tensor) -> Tensor:
        """Return the û of homogeneous admissible functions (batch, DoFs), (free, batch)."""
        out: Tensor = self.Z.transposed(u.T) / self.gram[:, None]
        return out

    def reduced(self, dual: Tensor) -> Tensor:
        """Return Zᵀ of dual vectors (batch, DoFs), (free, batch), in the range of a singular operator."""
        out: Tensor = self.Z.transposed(dual.T)
        return out - out.mean(dim=0) if self.hierarchy.singular else out

    def action(self, u: Tensor | None, m: Tensor) -> Callable[[Tensor | None], Action]:
        """Return for some samples the action of ZᵀJ(u; m)Z."""

        def some(samples: Tensor | None) -> Action:
            here = slice(None) if samples is None else samples
            J = self.kernel.linearise(None if u is None else u[here], m[here])
            return lambda x: self.Z.transposed(J(self.Z(x).T).T)

        return some

    def _linear(
        self, rhs: Tensor, m: Tensor, shift: Tensor, rtol: float, guess: Tensor | None, maxiter: int
    ) -> tuple[Tensor, SolverInfo]:
        b = self.reduced(rhs - self.kernel.residual(shift, m))
        start = None if guess is None else self.free(guess - shift)
        x, how = conjugate_gradients(self.action(None, m), self.prepare(m), b, rtol, start, maxiter)
        none = torch.zeros_like(how.iterations)
        info = SolverInfo(how.iterations, how.reduction, how.converged, none, none)
        return self.Z(x).T + shift, info

    def primal(
        self, rhs: Tensor, m: Tensor, shift: Tensor, rtol: float, guess: Tensor | None, maxiter: int
    ) -> tuple[Tensor, SolverInfo]:
        """Solve without derivatives."""
        if self.kernel.linear:
            return self._linear(rhs, m, shift, rtol, guess, maxiter)
        u, info = Newton(self, rtol, maxiter)(rhs, m, shift, guess)
        return u, SolverInfo(**info)

    def adjoint(self, u: Tensor, m: Tensor, dual: Tensor, rtol: float, maxiter: int) -> Tensor:
        """Return Z (ZᵀJZ)⁻¹ Zᵀ dual at a solution, (batch, DoFs)."""
        state = None if self.kernel.linear else u
        b = self.reduced(dual)
        x, how = conjugate_gradients(self.action(state, m), self.prepare(m, state), b, rtol, None, maxiter)
        if not bool(how.converged.all()):
            raise SponError(f"the adjoint solve did not converge in {maxiter} iterations")
        return self.Z(x).T


class _Implicit(torch.autograd.Function):
    """u(rhs, m, u_g) with Zᵀ(F(Z û + u_g; m) − rhs) = 0.

    δu = δu_g + Z (ZᵀJZ)⁻¹ Zᵀ (δrhs − ∂F/∂m δm − J δu_g).
    """

    @staticmethod
    def forward(
        ctx: Any,
        rhs: Tensor,
        m: Tensor,
        shift: Tensor,
        solver: MultigridSolver,
        rtol: float,
        guess: Tensor | None,
        maxiter: int,
        found: list[SolverInfo],
    ) -> Tensor:
        u, info = solver.primal(rhs, m, shift, rtol, guess, maxiter)
        found.append(info)
        ctx.solver, ctx.rtol, ctx.maxiter = solver, rtol, maxiter
        ctx.save_for_backward(u, m)
        return u

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        u, m = ctx.saved_tensors
        kernel, (dual,) = ctx.solver.kernel, gradients
        multiplier = ctx.solver.adjoint(u, m, dual, ctx.rtol, ctx.maxiter)
        of_m = None
        if ctx.needs_input_grad[1]:
            with torch.enable_grad():
                inputs = m.detach().requires_grad_()
                work = (kernel.residual(u, inputs) * multiplier).sum()
                # unused where the inputs are boundary values alone; materialised as zero
                (of_m,) = torch.autograd.grad(-work, inputs, allow_unused=True, materialize_grads=True)
        of_shift = None
        if ctx.needs_input_grad[2]:
            of_shift = dual - kernel.jacobian(None if kernel.linear else u, m, multiplier)
        return multiplier, of_m, of_shift, None, None, None, None, None
