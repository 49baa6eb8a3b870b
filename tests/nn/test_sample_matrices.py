"""Products of the processors against their plain references."""

import numpy as np
import pytest
import torch
import ufl
from conftest import on_square
from dolfinx import fem

import spon
from spon.fem.assembly import assembled
from spon.nn.processors.base import Encoded
from spon.nn.sample_matrices import SymmetricPattern
from spon.nn.sparse import SparseMap, multiply, multiply_plainly
from spon.nn.stiffness import QuadratureCoefficient


def pattern(n=9, seed=0):
    dense = np.random.default_rng(seed).random((n, n)) < 0.3
    rows, columns = np.nonzero(dense | dense.T | np.eye(n, dtype=bool))
    return SymmetricPattern(rows, columns, n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_agree_with_gathering_and_adding(problem, dtype):
    smap = SparseMap(problem.discretisation.levels[0].gradient, dtype)
    x = torch.randn(smap.shape[1], 6, dtype=dtype, requires_grad=True)
    y = torch.randn(smap.shape[0], 6, dtype=dtype)
    plain = multiply_plainly((smap.indptr, smap.indices, smap.data), smap.shape, x)
    torch.testing.assert_close(smap(x), plain)
    (wanted,) = torch.autograd.grad((plain * y).sum(), x)
    (found,) = torch.autograd.grad((smap(x) * y).sum(), x)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(smap.transposed(y), wanted)
    torch.testing.assert_close(
        multiply((smap.indptr, smap.indices, smap.data), smap.shape, x.detach()), plain
    )


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_sample_is_multiplied_by_its_own_matrix(batch, dtype):
    p = pattern()
    values = torch.randn(len(p.rows), batch, dtype=dtype, requires_grad=True)
    x = torch.randn(p.size, 3, 2, dtype=dtype, requires_grad=True)
    dense = torch.zeros(p.size, p.size, batch, dtype=dtype).index_put((p.rows, p.columns), values)
    plain = torch.einsum("ijb,jbc->ibc", dense.expand(-1, -1, 3), x)
    place = {(int(i), int(j)): k for k, (i, j) in enumerate(zip(p.rows, p.columns, strict=True))}
    mirrored = torch.tensor([place[int(j), int(i)] for i, j in zip(p.rows, p.columns, strict=True)])
    y = torch.randn_like(x)
    if batch == 1:
        values = values.detach()  # the same matrix for all samples has no gradient of its own
    found = p.matrix(values, values[mirrored]) @ x
    torch.testing.assert_close(found, plain)
    wanted = torch.autograd.grad((plain * y).sum(), [x])[0]
    torch.testing.assert_close(torch.autograd.grad((found * y).sum(), [x])[0], wanted)


def test_gradients_of_both_orders_agree_with_finite_differences():
    p = pattern(5)
    symmetric = torch.randn(5, 5, 2, dtype=torch.float64)
    values = (symmetric + symmetric.transpose(0, 1))[p.rows, p.columns].requires_grad_(True)
    place = {(int(i), int(j)): k for k, (i, j) in enumerate(zip(p.rows, p.columns, strict=True))}
    mirrored = torch.tensor([place[int(j), int(i)] for i, j in zip(p.rows, p.columns, strict=True)])
    x = torch.randn(5, 2, 2, dtype=torch.float64, requires_grad=True)

    def product(v, z):
        return (p.matrix(v, v[mirrored]) @ z) ** 2

    assert torch.autograd.gradcheck(product, (values, x))
    assert torch.autograd.gradgradcheck(product, (values, x))


@pytest.mark.parametrize("degree", [1, 2])
def test_cell_values_are_used_as_they_are(degree, rng):
    """The assembled ∫ κ ∇u·∇v of a piecewise constant κ, on every level of the hierarchy."""
    hierarchy = on_square(2, 1)
    mesh = hierarchy.finest
    V, cells = spon.lagrange(mesh, degree), fem.functionspace(mesh.dolfinx, ("DG", 0))
    d = spon.discretise(hierarchy, V, spon.dirichlet(mesh, V, {"left": 0.0}), {"k": cells})
    processor = spon.Multigrid(d, dtype="float64")
    kappa = rng.uniform(0.1, 9.0, (2, d.input.dofs))
    raw = torch.as_tensor(kappa)
    nodal = torch.as_tensor(d.input.features @ kappa.T)
    weights = QuadratureCoefficient(d, torch.float64)(Encoded(nodal[:, :, None], nodal, raw, raw))
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    for sample in range(2):
        k, P = spon.decode(spon.CanonicalOrder(mesh, cells), kappa[sample]), None
        fine = spon.CanonicalOrder(mesh, V).matrix(
            assembled(k * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx)
        )
        for level, assemble in zip(d.levels, processor.stiffness, strict=True):
            found, x = assemble(weights), rng.standard_normal(len(level.points))
            wanted = fine if P is None else P.T @ fine @ P
            z = torch.as_tensor(np.tile(x[:, None, None], (1, 2, 1)))
            applied = (found.diagonal[:, :, None] * (found.scaled @ z))[:, sample, 0]
            np.testing.assert_allclose(applied, wanted @ x, atol=1e-11)
            if level.prolongation is not None:
                P = level.prolongation if P is None else P @ level.prolongation
