"""V-cycles of a batch, each with the operator of its own sample."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.sparse import SparseMap
from spon.physics.kernels.base import Floats
from spon.physics.kernels.grid import Grid, Operator, parents

__all__ = ["Cycle", "VCycle"]

_LARGEST_DENSE = 2500


class VCycle(nn.Module):
    """A geometric multigrid hierarchy on the levels of a discretisation, for unknowns û.

    The coarse admissible functions are Z of the nodes that the coarse nodes lie on; prolongation is
    Z⁺ P Z_c. Moduli are averaged upward by volume, which for nested first-order simplices is the
    Galerkin operator; algebraic levels integrate on the cells of the level above and have it too.

    Args:
        discretisation: levels and constraint.
        factor: of the kernel.
        full: whether moduli are matrices.
        dtype: of all products.
        steps: of the smoother, before and after the correction.

    Raises:
        SponError: a constraint with potentials, or a coarsest level with too many unknowns.
    """

    def __init__(
        self, discretisation: Discretisation, factor: Floats, full: bool, dtype: torch.dtype, steps: int
    ) -> None:
        super().__init__()
        d = discretisation
        if d.constraint.latent is not None:
            raise SponError("multigrid for fields made of potentials; allowed: Lagrange constraints")
        self.dtype, self.steps, components = dtype, steps, d.output.components
        Z = [d.constraint.Z]
        grids, down, means = [Grid(d.levels[0], Z[0], factor, full, dtype)], [], []
        for fine, coarse in pairwise(d.levels):
            assert fine.prolongation is not None
            P = sp.csr_array(sp.kron(fine.prolongation, sp.eye_array(components)))
            Z.append(_injected(P, Z[-1]))
            gram = sp.csr_array(Z[-2].T @ Z[-2]).diagonal()
            reduced = sp.csr_array(sp.diags_array(1.0 / gram) @ Z[-2].T @ P @ Z[-1])
            down.append(SparseMap(reduced, dtype))
            algebraic = coarse.finer is not None
            means.append(None if algebraic else SparseMap(parents(fine, coarse), dtype))
            finer = (grids[-1], reduced) if algebraic else None
            grids.append(Grid(coarse, Z[-1], factor, full, dtype, finer))
        self.grids = nn.ModuleList(grids)
        self.prolong, self.means = nn.ModuleList(down), nn.ModuleList([m or nn.Identity() for m in means])
        self.singular = not d.constraint.fixed.any() and not full and components == 1
        last = self.grids[-1]
        if last.free > _LARGEST_DENSE:
            raise SponError(
                f"the coarsest level has {last.free} unknowns; allowed: {_LARGEST_DENSE}; add coarser "
                "levels, such as algebraic ones by Hierarchy.coarsened"
            )
        last.prepare_dense()

    def prepare(self, moduli: Tensor, instead: Tensor | None = None) -> Cycle:
        """Return the cycle of a batch.

        Args:
            moduli: (cells, batch) or (rows, rows, cells, batch) on the cells of the finest level.
            instead: moduli of the same shape for the samples whose operator is not positive definite.

        Raises:
            SponError: an operator that is not positive definite on the coarsest level.
        """
        cycle, failed = self._made(moduli)
        if instead is not None and bool(failed.any()):
            cycle, failed = self._made(torch.where(failed, instead, moduli))
        if bool(failed.any()):
            sample = int(failed.nonzero()[0])
            raise SponError(
                f"the operator of sample {sample} of the batch is not positive definite; "
                "allowed: positive coefficients, and supports that leave no rigid motion"
            )
        return cycle

    def _made(self, moduli: Tensor) -> tuple[Cycle, Tensor]:
        """Return the cycle, and the samples for which it is not positive definite, (batch,)."""
        size = moduli.flatten(0, -2).abs().amax(dim=0)
        moduli = (moduli / size).to(self.dtype)
        operators = []
        for k, grid in enumerate(self.grids):
            if k and not isinstance(self.means[k - 1], nn.Identity):
                shape = moduli.shape
                flat = moduli.movedim(-2, 0).reshape(shape[-2], -1)
                mean = self.means[k - 1](flat)
                moduli = mean.reshape(-1, *shape[:-2], shape[-1]).movedim(0, -2)
            operators.append(grid.operator(moduli))
        positive = torch.stack([(op.inverse_diagonal > 0).all(dim=0) for op in operators]).all(dim=0)
        matrices = self.grids[-1].matrices(moduli)
        if self.singular:
            trace = matrices.diagonal(dim1=1, dim2=2).mean(dim=1)
            matrices = matrices + trace[:, None, None] / self.grids[-1].free
        factor, failed = torch.linalg.cholesky_ex(matrices)
        return Cycle(self, operators, factor, size), (failed != 0) | ~positive


@dataclass(frozen=True)
class Cycle:
    """One symmetric V-cycle per call, û from residuals Zᵀr.

    Args:
        hierarchy: of the levels.
        operators: of each level.
        factor: (batch, n, n) Cholesky factors of the coarsest.
        size: (batch,) by which the moduli were divided.
    """

    hierarchy: VCycle
    operators: list[Operator]
    factor: Tensor
    size: Tensor

    def __call__(self, rhs: Tensor) -> Tensor:
        """Return B rhs, (free, batch), of any floating-point type; inside, the hierarchy's type is used."""
        scale = rhs.abs().amax(dim=0).clamp_min(torch.finfo(rhs.dtype).tiny)
        out = self._level(0, (rhs / scale).to(self.hierarchy.dtype))
        return out.to(rhs.dtype) * (scale / self.size)

    def select(self, samples: Tensor) -> Cycle:
        """Return the cycle of some samples of the batch."""
        operators = [operator.select(samples) for operator in self.operators]
        return Cycle(self.hierarchy, operators, self.factor[samples], self.size[samples])

    def _level(self, k: int, rhs: Tensor) -> Tensor:
        if k == len(self.operators) - 1:
            return torch.cholesky_solve(rhs.T[:, :, None], self.factor)[:, :, 0].T
        steps, operator, prolong = self.hierarchy.steps, self.operators[k], self.hierarchy.prolong[k]
        x = operator.smooth(None, rhs, steps)
        x = x + prolong(self._level(k + 1, prolong.transposed(rhs - operator(x))))
        return operator.smooth(x, rhs, steps)


def _injected(P: sp.csr_array, Z: sp.csr_array) -> sp.csr_array:
    """Return the rows of Z at the fine DoFs where each coarse function is largest, without empty columns."""
    columns = sp.csc_array(P)
    largest = np.maximum.reduceat(columns.data, columns.indptr[:-1])
    owner = np.repeat(np.arange(P.shape[1]), np.diff(columns.indptr))
    top = np.flatnonzero(columns.data >= largest[owner] - 1e-12)
    place = np.empty(P.shape[1], dtype=np.int64)
    place[owner[top][::-1]] = columns.indices[top][::-1]
    out = sp.csc_array(Z[place])
    return sp.csr_array(out[:, np.flatnonzero(np.diff(out.indptr))])
