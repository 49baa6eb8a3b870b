import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from spon.nn.sparse import SparseMap


def random_map(seed, rows=7, columns=5):
    return sp.random_array((rows, columns), density=0.5, rng=np.random.default_rng(seed), format="csr")


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (3,), (2, 4)]))
def test_agrees_with_the_dense_product_and_its_transpose(seed, rows, columns, tail):
    matrix = random_map(seed, rows, columns)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(columns, *tail, dtype=torch.float64, generator=generator, requires_grad=True)
    y = torch.randn(rows, *tail, dtype=torch.float64, generator=generator)
    out = SparseMap(matrix, torch.float64)(x)
    assert out.shape == (rows, *tail)
    torch.testing.assert_close(out, torch.tensordot(torch.as_tensor(matrix.toarray()), x, 1))
    (out * y).sum().backward()  # ⟨Ax, y⟩ = ⟨x, Aᵀy⟩
    torch.testing.assert_close(x.grad, torch.tensordot(torch.as_tensor(matrix.T.toarray()), y, 1))


def test_gradients_of_both_orders_agree_with_finite_differences():
    smap = SparseMap(random_map(0), torch.float64)
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: smap(t) ** 2, x)
    assert torch.autograd.gradgradcheck(lambda t: smap(t) ** 3, x)


def test_duplicates_are_summed_and_empty_rows_give_zero():
    matrix = sp.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))
    out = SparseMap(matrix, torch.float64)(torch.ones(2, 1, dtype=torch.float64))
    assert out.ravel().tolist() == [3.0, 0.0]


def test_copies_moves_and_stays_out_of_checkpoints():
    smap = SparseMap(random_map(0))
    assert smap.state_dict() == {}
    twin = copy.deepcopy(smap).double()
    x = torch.randn(5, 3)
    torch.testing.assert_close(twin(x.double()).float(), smap(x))
    assert "7 x 5" in repr(smap)


def test_wrong_length_is_refused():
    with pytest.raises(RuntimeError):
        SparseMap(random_map(0))(torch.ones(4, 2))
