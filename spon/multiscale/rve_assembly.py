"""Forces and stiffness of an RVE in its free DoFs, assembled cell by cell in batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.rve import RVE

__all__ = ["RVEAssembly", "State"]

Floats = npt.NDArray[np.float64]


class State:
    """Strains at all points, with what the laws say of them.

    Attributes:
        strain, stress: (cells, points · n).
        tangent: (cells, points, n, n), times the quadrature weight.
    """

    def __init__(self, strain: Tensor, stress: Tensor, tangent: Tensor) -> None:
        self.strain, self.stress, self.tangent = strain, stress, tangent


class RVEAssembly:
    """Fixed maps between cells and the reduced system ZᵀBᵀ W C B Z.

    Args:
        rve: a row of its Z has one entry, 1, at most.

    Attributes:
        size: free DoFs.
        pattern: (free, free) sparsity of the stiffness, sorted.

    Raises:
        SponError: another kind of Z.
    """

    def __init__(self, rve: RVE) -> None:
        Z = rve.Z
        if (np.diff(Z.indptr) > 1).any() or (Z.data != 1.0).any():
            raise SponError(f"{rve.source}: fluctuations that are no tied DoFs; allowed: those of read_rve")
        self.rve, self.size = rve, int(Z.shape[1])
        cells, points, n, k = rve.cell_operators.shape
        self._shape = (cells, points, n)
        free = np.full(rve.dofs, -1, dtype=np.int64)
        free[np.diff(Z.indptr) == 1] = Z.indices
        self._columns = free[rve.cell_dofs]  # (cells, k), -1: held
        self._B = torch.as_tensor(rve.cell_operators.reshape(cells, points * n, k))
        self._weights = torch.as_tensor(rve.cell_weights)
        spread = self._weights[:, :, None].expand(cells, points, n)
        self._spread = spread.reshape(cells, points * n)
        self._held = self._columns < 0
        self._safe = np.where(self._held, self.size, self._columns)  # held DoFs go to a place of their own
        self._cells = [torch.as_tensor(np.flatnonzero(rve.cell_phases == p)) for p in range(len(rve.names))]
        pair = (self.size + 1) * self._safe[:, :, None] + self._safe[:, None, :]
        outside = self._held[:, :, None] | self._held[:, None, :]
        keys, slots = np.unique(np.where(outside, -1, pair).ravel(), return_inverse=True)
        self._skip = int(keys[0] == -1)
        self._slots = slots.ravel()
        rows, columns = np.divmod(keys[self._skip :], self.size + 1)
        indptr = np.searchsorted(rows, np.arange(self.size + 1))
        self.pattern = sp.csr_array((np.ones(len(rows)), columns, indptr), shape=(self.size, self.size))
        self._stiffness = torch.zeros(cells, k, k, dtype=torch.float64)
        for material, where in zip(rve.materials, self._cells, strict=True):
            if material.linear:
                C = material.tangent(torch.zeros(1, n, dtype=torch.float64))
                C = C * self._weights[where][:, :, None, None]
                self._stiffness[where] = self._products(where, C)

    def state(self, macro: Tensor, free: Floats) -> State:
        """Evaluate the laws.

        Args:
            macro: (n,) macroscopic strain.
            free: (free,) fluctuation.
        """
        cells, points, n = self._shape
        local = torch.as_tensor(np.append(free, 0.0)[self._safe])
        strain = torch.bmm(self._B, local[:, :, None])[:, :, 0] + macro.repeat(points)
        stress = torch.empty_like(strain)
        tangent = strain.new_empty(cells, points, n, n)
        for material, where in zip(self.rve.materials, self._cells, strict=True):
            here = strain[where].reshape(-1, n)
            stresses, tangents = material.response(here)
            stress[where] = stresses.reshape(len(where), points * n)
            tangent[where] = tangents.reshape(len(where), points, n, n)
        return State(strain, stress, tangent * self._weights[:, :, None, None])

    def energy(self, state: State) -> float:
        """Return the integral of the potential."""
        total = 0.0
        for material, where in zip(self.rve.materials, self._cells, strict=True):
            density = material.potential(state.strain[where].reshape(-1, self._shape[2]))
            total += float((density * self._weights[where].reshape(-1)).sum())
        return total

    def forces(self, state: State) -> tuple[Floats, float]:
        """Return ZᵀBᵀ W σ, (free,), and the norm that it would have if nothing cancelled."""
        weighted = self._spread * state.stress
        local = torch.bmm(weighted[:, None], self._B)[:, 0].numpy()
        force = self._gather(local)
        return force, float(np.linalg.norm(self._gather(np.abs(local))))

    def stiffness(self, state: State) -> Floats:
        """Return the values of ZᵀBᵀ W C B Z, in the order of `pattern`."""
        for material, where in zip(self.rve.materials, self._cells, strict=True):
            if not material.linear:
                self._stiffness[where] = self._products(where, state.tangent[where])
        values = np.bincount(self._slots, self._stiffness.numpy().ravel())
        return np.asarray(values[self._skip :])

    def coupling(self, state: State) -> Floats:
        """Return ZᵀBᵀ W C, (free, n): forces that a macroscopic strain makes."""
        cells, points, n = self._shape
        local = torch.bmm(self._B.mT, state.tangent.reshape(cells, points * n, n)).numpy()
        return np.stack([self._gather(local[:, :, i]) for i in range(n)], axis=1)

    def integral(self, state: State) -> tuple[Tensor, Tensor]:
        """Return ∫σ, (n,), and ∫C, (n, n)."""
        stress = (self._spread * state.stress).reshape(-1, self._shape[2]).sum(0)
        return stress, state.tangent.sum((0, 1))

    def _products(self, where: Tensor, tangent: Tensor) -> Tensor:
        """Return BᵀC B, (cells, k, k), with C (cells, points, n, n) times the weight."""
        B = self._B[where]
        cells, points, n = len(where), *self._shape[1:]
        stressed = (tangent @ B.reshape(cells, points, n, -1)).reshape(B.shape)
        return torch.bmm(B.mT, stressed)

    def _gather(self, local: Floats) -> Floats:
        """Sum what the cells (cells, k) say of the free DoFs."""
        out = np.bincount(self._safe.ravel(), local.ravel(), minlength=self.size + 1)
        return np.asarray(out[: self.size])
