"""Equilibrium of an RVE under macroscopic strains, with the consistent macroscopic tangent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.factorisation import NotPositiveDefinite
from spon.multiscale.rve import RVE
from spon.multiscale.rve_assembly import RVEAssembly, State
from spon.multiscale.rve_linear import StiffnessSolver
from spon.multiscale.voigt import require_strain

__all__ = ["PointAnswer", "RVENotConverged", "RVESolution", "RVESolver"]

Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-12
LOOSE = 1e-4  # its square is far below what macroscopic problems resolve
_TANGENT, _LOOSE_TANGENT = 1e-8, 1e-5  # residuals of K X = L
_STEPS = 30  # of Newton's method
_HALVINGS = 8
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


@dataclass(frozen=True)
class _Found:
    """A state and what is left of its forces, for `RVESolver`."""

    free: Floats
    state: State
    force: Floats
    residual: float
    steps: int


@dataclass(frozen=True)
class PointAnswer:
    """What a macroscopic point asks of a cell.

    Args:
        stress: (n,) average, unit of the laws.
        tangent: (n, n), symmetric.
        free: (free,) free DoFs of the fluctuation.
        sensitivity: (free, n) their derivative with respect to the macroscopic strain.
        iterations: steps of Newton's method.
    """

    stress: Tensor
    tangent: Tensor
    free: Floats
    sensitivity: Floats
    iterations: int


class RVESolver:
    """Newton's method with a line search on the potential.

    The stiffness is factorised only where conjugate gradients, preconditioned by the last factor, do not find
    the step in a few iterations: a strain close to the one before hardly needs a factorisation.

    Args:
        rve: the cell.
        tolerance: of `RVESolution.residual`.

    Attributes:
        elastic: (free, n) derivative of the free DoFs with respect to the macroscopic strain, of the laws at
            zero strain.
    """

    def __init__(self, rve: RVE, tolerance: float = TOLERANCE) -> None:
        self.rve, self.tolerance = rve, tolerance
        self.assembly = RVEAssembly(rve)
        self._linear = StiffnessSolver(self.assembly.pattern)
        zero = self.assembly.state(
            torch.zeros(rve.strain_size, dtype=torch.float64), np.zeros(self.assembly.size)
        )
        self._assemble(zero)
        self._linear.refactor()
        self.elastic = -self._linear.solve(self.assembly.coupling(zero), _TANGENT)

    @property
    def factorisations(self) -> int:
        """How many were made."""
        return self._linear.factorisations

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
        with _explained(macro):
            first = self.elastic @ macro.numpy() if start is None else self._free(start.numpy())
            found = self._equilibrium(macro, first, self.tolerance)
            stress, tangent, _ = self._condense(found.state, _TANGENT)
        return RVESolution(
            stress[None],
            tangent[None],
            torch.as_tensor(self.rve.Z @ found.free)[None],
            torch.tensor([found.steps]),
            torch.tensor([found.residual], dtype=torch.float64),
        )

    def answer(
        self,
        macro: Tensor,
        start: Floats | None = None,
        sensitivity: Floats | None = None,
        tolerance: float = LOOSE,
    ) -> PointAnswer:
        """Solve loosely; the tangent's linear system is Newton's last step, too.

        With K X = L of the tangent and the forces f that are left, the stress is that of the state less
        Xᵀ f / V: the gradient of the condensed potential, so an error of the state enters squared.

        Args:
            macro: (n,) macroscopic strain.
            start: (free,) free DoFs to start from; default: those of the laws at zero strain.
            sensitivity: (free, n) close to that of the answer.
            tolerance: of `RVESolution.residual`; the stress is by about its square from equilibrium's.

        Raises:
            RVENotConverged: as `solve_one`.
        """
        if sensitivity is None:
            sensitivity = self.elastic
        with _explained(macro):
            first = self.elastic @ macro.numpy() if start is None else start
            found = self._equilibrium(macro, first, tolerance)
            stress, tangent, X = self._condense(found.state, _LOOSE_TANGENT, -sensitivity, found.force)
            free = found.free
            if found.residual > 0.1 * tolerance:  # for the next start
                free = free - self._linear.solve(found.force[:, None], 1e-2)[:, 0]
        return PointAnswer(stress, tangent, free, -X, found.steps)

    def _equilibrium(self, macro: Tensor, free: Floats, tolerance: float) -> _Found:
        state = self.assembly.state(macro, free)
        force, scale = self.assembly.forces(state)
        steps = 0
        while not np.linalg.norm(force) <= tolerance * scale:
            if steps == _STEPS or not np.isfinite(scale):
                raise _failure(macro, steps, force, scale)
            self._assemble(state)
            relative = float(np.linalg.norm(force)) / scale
            enough = max(self.tolerance, 0.1 * tolerance / relative, min(1e-2, relative))
            step = self._linear.solve(-force[:, None], enough)[:, 0]
            free, state, force, scale = self._search(macro, free, state, force, scale, step, steps)
            steps += 1
        return _Found(free, state, force, float(np.linalg.norm(force)) / max(scale, 1e-300), steps)

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

    def _condense(
        self, state: State, tolerance: float, start: Floats | None = None, force: Floats | None = None
    ) -> tuple[Tensor, Tensor, Floats]:
        """Return average stress, C̄ = (∫C − LᵀX − XᵀL + XᵀKX) / V with K X = L, and X.

        An error of X enters the tangent squared.
        """
        self._assemble(state)
        L = self.assembly.coupling(state)
        X = self._linear.solve(L, tolerance, start)
        stress, tangent = self.assembly.integral(state)
        if force is not None:
            stress = stress - torch.as_tensor(X.T @ force)
        cross = torch.as_tensor(L.T @ X)
        tangent = tangent - cross - cross.mT + torch.as_tensor(X.T @ (self._linear.matrix @ X))
        return stress / self.rve.volume, (tangent + tangent.mT) / (2 * self.rve.volume), X

    def sensitivity(self, macro: Tensor, fluctuation: Tensor) -> Tensor:
        """Return d fluctuation / d macroscopic strain in equilibrium, (dofs, n), to eight digits.

        Args:
            macro: (n,) macroscopic strain.
            fluctuation: (dofs,) in equilibrium.
        """
        state = self.assembly.state(macro, self._free(fluctuation.numpy()))
        self._assemble(state)
        return torch.as_tensor(self.rve.Z @ -self._linear.solve(self.assembly.coupling(state), _TANGENT))

    def _assemble(self, state: State) -> None:
        self._linear.load(self.assembly.stiffness(state))

    def _free(self, fluctuation: Floats) -> Floats:
        counts = np.bincount(self.rve.Z.indices, minlength=self.assembly.size)
        return np.asarray((self.rve.Z.T @ fluctuation) / counts)


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


@contextlib.contextmanager
def _explained(macro: Tensor) -> Iterator[None]:
    """Say the strain where a stiffness has no factor; what runs away is reported without warnings."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except NotPositiveDefinite as error:
        raise RVENotConverged(f"no equilibrium at the strain ({_shown(macro)}): {error}") from error


def _failure(macro: Tensor, steps: int, force: Floats, scale: float) -> RVENotConverged:
    relative = float(np.linalg.norm(force)) / max(scale, 1e-300)
    return RVENotConverged(
        f"no equilibrium at the strain ({_shown(macro)}): relative residual {relative:.3g} after {steps} "
        "steps of Newton's method; is the law convex there?"
    )


def _shown(macro: Tensor) -> str:
    return ", ".join(f"{v:.6g}" for v in macro.tolist())
