"""Fixed sparse maps as differentiable torch operations."""

from __future__ import annotations

import warnings
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor, nn

__all__ = ["SparseMap", "multiply", "multiply_plainly"]

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

CSR = tuple[Tensor, Tensor, Tensor]
Shape = tuple[int, int]


class SparseMap(nn.Module):
    """Multiply by a fixed sparse matrix, on the first axis of a tensor: y = A x.

    The transpose is stored too, so that the backward pass is a product and not a scatter. Rows are
    summed in a fixed order: the result does not depend on the number of threads.

    Args:
        matrix: (rows, columns) real.
        dtype: of the values.
    """

    def __init__(self, matrix: sp.sparray, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape = tuple(matrix.shape)
        for name, part in (("", sp.csr_array(matrix)), ("t_", sp.csr_array(matrix.T))):
            part.sum_duplicates()
            # three plain tensors: a CSR tensor as a buffer breaks deepcopy and DDP
            for key in ("indptr", "indices", "data"):
                kind = dtype if key == "data" else torch.int32
                tensor = torch.as_tensor(getattr(part, key)).to(kind)
                self.register_buffer(name + key, tensor, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map.

        Args:
            x: (columns, …) on the map's device; becomes the map's dtype.

        Returns:
            (rows, …).
        """
        return self._product(x, False)

    def transposed(self, y: Tensor) -> Tensor:
        """Apply the transpose, Aᵀ y.

        Args:
            y: (rows, …) on the map's device.

        Returns:
            (columns, …).
        """
        return self._product(y, True)

    def _product(self, x: Tensor, transposed: bool) -> Tensor:
        parts = (self.indptr, self.indices, self.data), (self.t_indptr, self.t_indices, self.t_data)
        shape = (self.shape[1], self.shape[0]) if transposed else self.shape
        forward, backward = reversed(parts) if transposed else parts
        flat = x.reshape(shape[1], -1).to(self.data.dtype)  # autocast makes others
        out: Tensor = _Product.apply(flat, forward, backward, shape)
        return out.reshape(shape[0], *x.shape[1:])

    def extra_repr(self) -> str:
        """Describe the map when a module is printed."""
        return f"{self.shape[0]} x {self.shape[1]}, {len(self.data)} entries, {self.data.dtype}"


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Any, transpose: Any, shape: Shape) -> Tensor:
        ctx.matrix, ctx.transpose, ctx.shape = matrix, transpose, shape
        return multiply(matrix, shape, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        rows, columns = ctx.shape
        # apply, not multiply, so that second derivatives work
        product = _Product.apply(gradients[0], ctx.transpose, ctx.matrix, (columns, rows))
        return product, None, None, None


def multiply(matrix: CSR, shape: Shape, x: Tensor) -> Tensor:
    """Return A x by the quickest product of this build of torch; no autograd.

    The choice depends on the build alone, not on a measurement in each process: the products round
    differently, and the ranks of a training run must agree to the last bit.

    Args:
        matrix: `indptr`, `indices` (int32) and values of A, of one dtype with x.
        shape: (rows, columns) of A.
        x: (columns, n).

    Returns:
        (rows, n).
    """
    csr = torch.sparse_csr_tensor(*matrix, size=shape, check_invariants=False)
    with torch.autocast(x.device.type, enabled=False):  # no sparse products in half precision
        if x.device.type == "cpu":  # several times faster than `csr @ x` in builds without MKL
            return torch.sparse.mm(csr, x.contiguous(), "sum")
        return csr @ x


def multiply_plainly(matrix: CSR, shape: Shape, x: Tensor) -> Tensor:
    """Return A x by gathering and adding, as `multiply` does it on any device: its reference in tests."""
    indptr, indices, values = matrix
    rows = torch.repeat_interleave(torch.arange(shape[0], device=x.device), indptr.diff())
    return x.new_zeros(shape[0], x.shape[1]).index_add(0, rows, values[:, None] * x[indices])
