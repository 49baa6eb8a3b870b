"""Fixed sparse maps as differentiable torch operations."""

from __future__ import annotations

import warnings
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor, nn

__all__ = ["SparseMap"]

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


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
        flat = x.reshape(self.shape[1], -1).to(self.data.dtype)  # autocast makes others
        forward = (self.indptr, self.indices, self.data)
        backward = (self.t_indptr, self.t_indices, self.t_data)
        out: Tensor = _Product.apply(flat, forward, backward, self.shape)
        return out.reshape(self.shape[0], *x.shape[1:])

    def extra_repr(self) -> str:
        """Describe the map when a module is printed."""
        return f"{self.shape[0]} x {self.shape[1]}, {len(self.data)} entries, {self.data.dtype}"


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Any, transpose: Any, shape: tuple[int, int]) -> Tensor:
        ctx.matrix, ctx.transpose, ctx.shape = matrix, transpose, shape
        return _multiply(matrix, shape, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        rows, columns = ctx.shape
        # apply, not _multiply, so that second derivatives work
        product = _Product.apply(gradients[0], ctx.transpose, ctx.matrix, (columns, rows))
        return product, None, None, None


def _multiply(matrix: tuple[Tensor, Tensor, Tensor], shape: tuple[int, int], x: Tensor) -> Tensor:
    csr = torch.sparse_csr_tensor(*matrix, size=shape, check_invariants=False)
    with torch.autocast(x.device.type, enabled=False):  # no sparse products in half precision
        return _product(csr, x)


def _product(csr: Tensor, x: Tensor) -> Tensor:
    if x.device.type == "cpu":  # several times faster than `csr @ x` in builds without MKL
        return torch.sparse.mm(csr, x.contiguous(), "sum")
    return csr @ x
