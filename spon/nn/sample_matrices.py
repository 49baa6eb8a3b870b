"""Sparse matrices of one pattern, another one for each sample of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spon.nn.sparse import multiply

__all__ = ["SampleMatrix", "SymmetricPattern"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Layout:
    """One CSR pattern of all samples: row i·batch + b couples to columns j·batch + b.

    So that (nodes, batch, channels) is multiplied without a change of layout, each sample by its own
    matrix, in one product.
    """

    indptr: Tensor
    indices: Tensor
    rows: Tensor
    order: Tensor


class SymmetricPattern(nn.Module):
    """Where entries are, symmetric as that of a stiffness matrix; products with values for each sample.

    Args:
        rows: (entries,) of each entry, ascending.
        columns: (entries,) ascending in each row.
        size: rows of the matrix.
    """

    rows: Tensor
    columns: Tensor
    diagonal: Tensor

    def __init__(self, rows: Integers, columns: Integers, size: int) -> None:
        super().__init__()
        self.size = size
        diagonal = np.flatnonzero(rows == columns)
        for name, array in (("rows", rows), ("columns", columns), ("diagonal", diagonal)):
            self.register_buffer(name, torch.as_tensor(array), persistent=False)
        self._layouts: dict[tuple[int, torch.device], _Layout] = {}

    def layout(self, batch: int) -> _Layout:
        """Return the pattern for a batch; the last few are kept."""
        key = (batch, self.rows.device)
        if key not in self._layouts:
            if len(self._layouts) >= 4:
                self._layouts.clear()
            device = self.rows.device
            counts = torch.bincount(self.rows, minlength=self.size)
            starts = torch.cumsum(counts, 0) - counts
            repeated = counts.repeat_interleave(batch)
            indptr = torch.cat([repeated.new_zeros(1), repeated.cumsum(0)])
            flat = torch.repeat_interleave(torch.arange(self.size * batch, device=device), repeated)
            node, sample = flat // batch, flat % batch
            within = torch.arange(len(flat), device=device) - indptr[flat]
            entry = starts[node] + within
            indices = self.columns[entry] * batch + sample
            self._layouts[key] = _Layout(indptr.int(), indices.int(), flat, entry * batch + sample)
        return self._layouts[key]

    def matrix(self, values: Tensor, transposed: Tensor | None = None) -> SampleMatrix:
        """Return the matrices of a batch.

        Args:
            values: (entries, batch), or (entries, 1) for the same matrix in all samples.
            transposed: values of the transposes; default: those of symmetric matrices.
        """
        layout = self.layout(values.shape[1])
        flat = values.reshape(-1)[layout.order]
        other = flat if transposed is None else transposed.reshape(-1)[layout.order]
        return SampleMatrix(layout, flat, other, values.shape[1], self.size)


@dataclass(frozen=True)
class SampleMatrix:
    """Matrices A_b, differentiable in their values and in what they are multiplied with."""

    layout: _Layout
    values: Tensor
    transposed: Tensor
    batch: int
    size: int

    def __matmul__(self, x: Tensor) -> Tensor:
        """Return A_b x_b for every sample, (nodes, batch, channels) both ways."""
        rows = self.size * self.batch
        out: Tensor = _SampleProduct.apply(
            self.values, self.transposed, x.reshape(rows, -1).to(self.values.dtype), self.layout
        )
        return out.reshape(x.shape)


class _SampleProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, transposed: Tensor, x: Tensor, layout: _Layout) -> Tensor:
        ctx.layout = layout
        ctx.save_for_backward(values, transposed, x)
        return multiply((layout.indptr, layout.indices, values), (len(x), len(x)), x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        values, transposed, x = ctx.saved_tensors
        layout, g = ctx.layout, gradients[0]
        of_values = of_x = None
        if ctx.needs_input_grad[0]:
            of_values = (g[layout.rows] * x[layout.indices]).sum(dim=1)
        if ctx.needs_input_grad[2]:
            of_x = _SampleProduct.apply(transposed, values, g, layout)
        return of_values, None, of_x, None
