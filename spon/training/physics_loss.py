"""Losses without labels: what the equations say of a prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from spon.data.dataset import Dataset
from spon.errors import SponError
from spon.physics.kernels.dual_norm import DualNorm
from spon.physics.kernels.solver import MultigridSolver

__all__ = ["PHYSICS_LOSSES", "PhysicsLoss"]

PHYSICS_LOSSES = ("none", "residual", "potential")

_LOOSE = 1e-2  # of the first residual: one to three iterations, for sizes and normalisation
_PART = 32  # samples solved at a time


class PhysicsLoss:
    """How far predictions are from solving the equations of their samples, relative to the solution.

    "residual": η / ‖u₀‖, η² = rᵀBr with r = F(u; m) and B one multigrid cycle of the sample's own operator
    (`DualNorm`), for linear equations nearly the relative energy error; its gradient is that of fixed B.
    For nonlinear equations B is that at u = 0.

    "potential": 2 (Π(u) − Π(u₀)) / ‖u₀‖² with the potential Π whose gradient is F. For linear equations and
    the exact solution as u₀ this is (uᵀKu − 2fᵀu)/fᵀu₀ + 1 (for zero boundary values), the square of the
    relative energy error; u₀ moves it by a constant, so that it may become slightly negative.

    u₀ is a loose solve, the energy norm ‖·‖ that of the operator at u = 0. Outputs of the data set are
    never read. All is float64.

    Args:
        name: "residual" or "potential".
        dataset: inputs, boundary data and equations.
        device: where samples are.

    Attributes:
        surrogates: (samples, DoFs) u₀.

    Raises:
        SponError: another name, a data set without equations, or with such as have no multigrid cycles;
            a sample whose u₀ has no energy.
    """

    def __init__(self, name: str, dataset: Dataset, device: torch.device | str = "cpu") -> None:
        allowed = PHYSICS_LOSSES[1:]
        if name not in allowed:
            raise SponError(f"physics loss '{name}'; allowed: {', '.join(allowed)}")
        if dataset.physics is None:
            raise SponError(
                f"physics_loss '{name}' for a data set without equations; allowed: 'none', or data of a "
                "problem whose `physics` names a kernel"
            )
        self.name = name
        self.solver = MultigridSolver(dataset.discretisation, dataset.physics, device=device)
        self.norm = DualNorm(self.solver.kernel, lambda r, m, u: self.solver.cycle(r, m))
        self._inputs = torch.as_tensor(dataset.inputs).to(device)
        shifts = None if dataset.shifts is None else torch.as_tensor(dataset.shifts).to(device)
        starts, squares, levels = [], [], []
        with torch.no_grad():
            for part in torch.arange(len(self._inputs), device=self._inputs.device).split(_PART):
                m, shift = self._inputs[part], None if shifts is None else shifts[part]
                u, _ = self.solver.solve(None, m, _LOOSE, shift=shift, strict=False)
                starts.append(u)
                squares.append((u * self.solver.kernel.jacobian(torch.zeros_like(u), m, u)).sum(dim=1))
                levels.append(self.solver.kernel.energy(u, m))
        self.surrogates = torch.cat(starts)
        self._squares, self._levels = torch.cat(squares), torch.cat(levels)
        bad = ~(self._squares > 0) | ~self._levels.isfinite()
        if bool(bad.any()):
            k = int(bad.nonzero()[0])
            raise SponError(
                f"the energy of sample {dataset.numbers[k]} is {float(self._squares[k]):.3g}; allowed: > 0"
            )

    def __call__(self, u: Tensor, which: Tensor) -> Tensor:
        """Return the loss of admissible predictions.

        Args:
            u: (batch, DoFs) float64.
            which: (batch,) their samples.

        Returns:
            (batch,) float64.
        """
        m, squares = self._inputs[which], self._squares[which]
        if self.name == "residual":
            return self.norm(u, m) / squares.sqrt()
        return 2.0 * (self.solver.kernel.energy(u, m) - self._levels[which]) / squares
