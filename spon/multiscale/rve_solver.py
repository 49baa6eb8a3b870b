"""Equilibrium of an RVE under macroscopic strains, with the consistent macroscopic tangent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.factorisation import NotPositiveDefinite, factorisation
from spon.multiscale.rve import RVE
from spon.multiscale.rve_assembly import RVEAssembly, State
from spon.multiscale.voigt import require_strain

__all__ = ["RVENotConverged", "RVESolution", "RVESolver"]

Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-12
_STEPS = 30  # of Newton's method
_HALVINGS = 8
_CG_STEPS = 4  # more do not pay: a factorisation costs about six solves
_ARMIJO = 1e-4


class RVENotConverged(SponError):  # noqa: N818, a state of the solver
    """No equilibrium was found for a strain."""


@dataclass(frozen=True)
class RVESolution:
    """Cells in equilibrium.

    Args:
        stress: (batch, n) average stress, unit of the laws.
        tangent: (batch, n, n) d stress / d macroscopic strain, symmetric.
        fluctuation: (batch, dofs) displacement fluctuation.
        iterations: (batch,) int64, steps of Newton's method.
        residual: (batch,) Euclidean norm of the forces out of balance, relative to that of the absolute
            contributions of the cells.
    """

    stress: Tensor
    tangent: Tensor
    fluctuation: Tensor
    iterations: Tensor
    residual: Tensor


class RVESolver:
    """Newton's method with a line search on the potential.

    The stiffness is factorised only where conjugate gradients, preconditioned by the last factor, do not find
    the step in a few iterations: a strain close to the one before hardly needs a factorisation.

    Args:
        rve: the cell.
        tolerance: of `RVESolution.residual`.
    """

    def __init__(self, rve: RVE, tolerance: float = TOLERANCE) -> None:
        self.rve, self.tolerance = rve, tolerance
        self.assembly = RVEAssembly(rve)
        self._factor = factorisation(self.assembly.pattern)
        self._matrix = self.assembly.pattern.copy()
        self.factorisations = 0
        zero = self.assembly.state(
            torch.zeros(rve.strain_size, dtype=torch.float64), np.zeros(self.assembly.size)
        )
        self._assemble(zero)
        self._refactor()
        self._elastic = -self._factor.solve(self.assembly.coupling(zero))

    def solve(self, macro_strain: Tensor, start: Tensor | None = None) -> RVESolution:
        """Solve sample after sample; see `RVE.solve`."""
        n, dofs = self.rve.strain_size, self.rve.dofs
        require_strain(macro_strain, n)
        if macro_strain.dim() != 2:
            raise SponError(f"strains of shape {tuple(macro_strain.shape)}; allowed: (batch, {n})")
        if start is not None and start.shape != (len(macro_strain), dofs):
            shape = tuple(start.shape)
            raise SponError(f"a start of shape {shape}; allowed: ({len(macro_strain)}, {dofs})")
        found = []
        for sample, strain in enumerate(macro_strain):
            try:
                found.append(self.solve_one(strain, None if start is None else start[sample]))
            except RVENotConverged as error:
                raise RVENotConverged(f"sample {sample}: {error}") from error
        return join(found, n, dofs)

    def solve_one(self, macro: Tensor, start: Tensor | None = None) -> RVESolution:
        """Solve for one strain.

        Args:
            macro: (n,) macroscopic strain.
            start: (dofs,) fluctuation to start from.

        Returns:
            A batch of one.

        Raises:
            RVENotConverged: the strain, and how far Newton's method came.
        """
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what runs away is reported below
                return self._newton(macro, start)
        except NotPositiveDefinite as error:
            raise RVENotConverged(f"no equilibrium at the strain ({_shown(macro)}): {error}") from error

    def _newton(self, macro: Tensor, start: Tensor | None) -> RVESolution:
        free = self._elastic @ macro.numpy() if start is None else self._free(start.numpy())
        state = self.assembly.state(macro, free)
        force, scale = self.assembly.forces(state)
        steps = 0
        while not np.linalg.norm(force) <= self.tolerance * scale:
            if steps == _STEPS or not np.isfinite(scale):
                raise _failure(macro, steps, force, scale)
            self._assemble(state)
            relative = float(np.linalg.norm(force)) / scale
            step = self._linear(-force[:, None], max(self.tolerance, min(1e-2, relative)))[:, 0]
            free, state, force, scale = self._search(macro, free, state, force, scale, step, steps)
            steps += 1
        stress, tangent = self._condense(state)
        residual = float(np.linalg.norm(force)) / max(scale, 1e-300)
        return RVESolution(
            stress[None],
            tangent[None],
            torch.as_tensor(self.rve.Z @ free)[None],
            torch.tensor([steps]),
            torch.tensor([residual], dtype=torch.float64),
        )

    def _search(
        self,
        macro: Tensor,
        free: Floats,
        state: State,
        force: Floats,
        scale: float,
        step: Floats,
        steps: int,
    ) -> tuple[Floats, State, Floats, float]:
        """Halve a step until the residual or the potential is smaller."""
        norm, slope = np.linalg.norm(force), float(force @ step)
        energy = None
        length = 1.0
        for _ in range(_HALVINGS):
            trial = free + length * step
            there = self.assembly.state(macro, trial)
            out, size = self.assembly.forces(there)
            if np.linalg.norm(out) < 0.9 * norm:
                return trial, there, out, size
            if energy is None:
                energy = self.assembly.energy(state)
            if self.assembly.energy(there) <= energy + _ARMIJO * length * slope:
                return trial, there, out, size
            length /= 2
        raise _failure(macro, steps, force, scale)

    def _condense(self, state: State) -> tuple[Tensor, Tensor]:
        """Return average stress and C̄ = (∫C − LᵀX − XᵀL + XᵀKX) / V with K X = L.

        An error of X enters squared.
        """
        self._assemble(state)
        L = self.assembly.coupling(state)
        X = self._linear(L, 1e-8)
        stress, tangent = self.assembly.integral(state)
        cross = torch.as_tensor(L.T @ X)
        tangent = tangent - cross - cross.mT + torch.as_tensor(X.T @ (self._matrix @ X))
        return stress / self.rve.volume, (tangent + tangent.mT) / (2 * self.rve.volume)

    def sensitivity(self, macro: Tensor, fluctuation: Tensor) -> Tensor:
        """Return d fluctuation / d macroscopic strain in equilibrium, (dofs, n), to eight digits.

        Args:
            macro: (n,) macroscopic strain.
            fluctuation: (dofs,) in equilibrium.
        """
        state = self.assembly.state(macro, self._free(fluctuation.numpy()))
        self._assemble(state)
        return torch.as_tensor(self.rve.Z @ -self._linear(self.assembly.coupling(state), 1e-8))

    def _assemble(self, state: State) -> None:
        self._matrix.data = self.assembly.stiffness(state)

    def _refactor(self) -> None:
        self._factor.update(self._matrix.data)
        self.factorisations += 1

    def _linear(self, rhs: Floats, tolerance: float) -> Floats:
        """Solve K x = b, (free, m), to a relative residual, if need be with a new factor."""
        x, found = conjugate_gradients(self._matrix, self._factor.solve, rhs, tolerance, _CG_STEPS)
        if not found:
            self._refactor()
            x = self._factor.solve(rhs)
        return x

    def _free(self, fluctuation: Floats) -> Floats:
        counts = np.bincount(self.rve.Z.indices, minlength=self.assembly.size)
        return np.asarray((self.rve.Z.T @ fluctuation) / counts)


def conjugate_gradients(
    A: sp.csr_array, B: Callable[[Floats], Floats], rhs: Floats, tolerance: float, steps: int
) -> tuple[Floats, bool]:
    """Solve A x = b for several b, each with its own step lengths.

    Args:
        A: (n, n), symmetric positive definite.
        B: preconditioner, (n, m) → (n, m).
        rhs: (n, m).
        tolerance: Euclidean residual relative to b, for all columns.
        steps: at most.

    Returns:
        x, and whether the tolerance was met.
    """
    x, r = np.zeros_like(rhs), rhs
    target = tolerance * np.linalg.norm(rhs, axis=0)
    direction, last = np.zeros_like(rhs), np.ones(rhs.shape[1])
    for step in range(steps):
        if (np.linalg.norm(r, axis=0) <= target).all():
            return x, True
        z = B(r)
        product = (r * z).sum(axis=0)
        direction = z + (product / last if step else 0.0) * direction
        image = A @ direction
        curvature = (direction * image).sum(axis=0)
        if not (curvature > 0).all():  # also a column that is solved to the last bit: the factor decides
            return x, False
        length = product / curvature
        x, r = x + length * direction, r - length * image
        last = np.maximum(product, 1e-300)
    return x, bool((np.linalg.norm(r, axis=0) <= target).all())


def join(found: list[RVESolution], n: int, dofs: int) -> RVESolution:
    """Return several batches as one; none gives an empty batch."""
    parts = [
        (torch.zeros(0, n, dtype=torch.float64), "stress"),
        (torch.zeros(0, n, n, dtype=torch.float64), "tangent"),
        (torch.zeros(0, dofs, dtype=torch.float64), "fluctuation"),
        (torch.zeros(0, dtype=torch.int64), "iterations"),
        (torch.zeros(0, dtype=torch.float64), "residual"),
    ]
    return RVESolution(
        **{name: torch.cat([none, *(getattr(f, name) for f in found)]) for none, name in parts}
    )


def _failure(macro: Tensor, steps: int, force: Floats, scale: float) -> RVENotConverged:
    relative = float(np.linalg.norm(force)) / max(scale, 1e-300)
    return RVENotConverged(
        f"no equilibrium at the strain ({_shown(macro)}): relative residual {relative:.3g} after {steps} "
        "steps of Newton's method; is the law convex there?"
    )


def _shown(macro: Tensor) -> str:
    return ", ".join(f"{v:.6g}" for v in macro.tolist())
