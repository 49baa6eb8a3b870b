"""Fields on other meshes of the same geometry, with the constraint imposed again."""

import basix.ufl
import numpy as np
import pytest
import ufl
from dolfinx import fem
from mpi4py import MPI
from test_canonical import CELLS, polynomial, shuffled

import spon
from meshes import box
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD


def tagged(cell, n, seed):
    return TaggedMesh(shuffled(box(cell, n), seed), WORLD)


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("element", [("Lagrange", 2), ("Lagrange", 1, (2,)), ("DG", 1), ("RT", 2)])
def test_polynomials_survive_on_meshes_that_do_not_match(cell, element):
    coarse, fine = tagged(cell, 2, 1), tagged(cell, 3, 2)
    spaces = [fem.functionspace(mesh.dolfinx, element) for mesh in (fine, coarse)]
    resample = spon.Resampling(fine, spaces[0], coarse, spaces[1])
    c = CanonicalOrder(fine, spaces[0]).canonical.value_size
    d = fine.arrays.gdim
    p = polynomial(d, element[1] - (element[0] == "RT"), c)
    of, to = (spon.Dofs(m, V)(lambda x: p(x[:d])) for m, V in ((coarse, spaces[1]), (fine, spaces[0])))
    np.testing.assert_allclose(resample(np.stack([of, 2 * of])), [to, 2 * to], atol=1e-11)
    x, y = (
        np.random.default_rng(0).standard_normal(len(of)),
        np.random.default_rng(1).standard_normal(len(to)),
    )
    assert (resample.matrix @ x) @ y == pytest.approx(x @ (resample.matrix.T @ y), rel=1e-11)


@pytest.mark.mpi
def test_the_constraint_holds_on_the_fine_mesh(rng):
    coarse = tagged("triangle", 4, 1)
    fine = spon.Hierarchy.uniform(coarse, 1).finest
    other = tagged("triangle", 7, 2)

    def dirichlet(mesh):
        V = spon.lagrange(mesh, 2)
        return V, spon.dirichlet(
            mesh, V, {"left": lambda x: np.sin(9 * x[1]), "top": lambda x: np.sin(9.0) + 0 * x[0]}
        )

    U, source = dirichlet(coarse)
    values = source.expand(np.random.default_rng(0).standard_normal((3, source.Z.shape[1])))
    for mesh in (fine, other):
        V, target = dirichlet(mesh)
        u = spon.Resampling(mesh, V, coarse, U, target)(values)
        assert target.violation(u).max() == 0.0
        plain = spon.Resampling(mesh, V, coarse, U)(values)
        free = ~target.fixed
        np.testing.assert_array_equal(u[:, free], plain[:, free])
        assert np.abs(plain - u).max() > 1e-3  # the coarse boundary values are not the fine ones
        data = target.shift + 0.5 * target.fixed
        own = spon.Resampling(mesh, V, coarse, U, target)(values, data[None])
        np.testing.assert_array_equal(own[:, target.fixed], np.tile(data[target.fixed], (3, 1)))


@pytest.mark.mpi
def test_divergence_free_fields_stay_so_on_other_meshes():
    coarse, fine = tagged("triangle", 3, 1), tagged("triangle", 5, 2)
    spaces = [fem.functionspace(mesh.dolfinx, ("RT", 2)) for mesh in (fine, coarse)]
    source = spon.divergence_free(coarse, spaces[1], ["top"])
    target = spon.divergence_free(fine, spaces[0], ["top"])
    values = source.expand(np.random.default_rng(0).standard_normal((2, source.Z.shape[1])))
    u = spon.Resampling(fine, spaces[0], coarse, spaces[1], target)(values)
    f = spon.decode(CanonicalOrder(fine, spaces[0]), u[0])
    squares = (ufl.div(f) ** 2, ufl.inner(ufl.grad(f), ufl.grad(f)))
    div, grad = (np.sqrt(WORLD.allreduce(fem.assemble_scalar(fem.form(s * ufl.dx)))) for s in squares)
    assert div <= 1e-12 * grad
    # nested: nothing changes
    nested = spon.Hierarchy.uniform(coarse, 1).finest
    V = fem.functionspace(nested.dolfinx, ("RT", 2))
    once = spon.Resampling(nested, V, coarse, spaces[1])(values)
    again = spon.Resampling(nested, V, coarse, spaces[1], spon.divergence_free(nested, V, ["top"]))(values)
    np.testing.assert_allclose(once, again, atol=1e-12)
    exact = [spon.Dofs(m, W).freeze(1).mass for m, W in ((nested, V), (coarse, spaces[1]))]
    np.testing.assert_allclose(
        np.sum(once * (exact[0] @ once.T).T, 1), np.sum(values * (exact[1] @ values.T).T, 1)
    )


@pytest.mark.mpi
def test_mixed_spaces_and_what_is_refused():
    coarse, fine = tagged("triangle", 3, 1), tagged("triangle", 4, 2)
    element = basix.ufl.mixed_element(
        [basix.ufl.element("P", "triangle", 2, shape=(2,)), basix.ufl.element("P", "triangle", 1)]
    )
    W = [fem.functionspace(mesh.dolfinx, element) for mesh in (fine, coarse)]
    resample = spon.Resampling(fine, W[0], coarse, W[1])
    ones = resample(np.ones((1, resample.matrix.shape[1])))
    np.testing.assert_allclose(ones, 1.0, atol=1e-13)
    V = [spon.lagrange(mesh) for mesh in (fine, coarse)]
    with pytest.raises(spon.SponError, match=r"cannot resample P2 triangle x 2 .* as P1 triangle"):
        spon.Resampling(fine, V[0], coarse, W[1])
    with pytest.raises(spon.SponError, match="the space lives on another mesh"):
        spon.Resampling(fine, V[1], coarse, V[1])
    with pytest.raises(spon.SponError, match="a constraint on 16 DoFs; allowed: 25"):
        spon.Resampling(fine, V[0], coarse, V[1], spon.Constraint.none(16))
    with pytest.raises(spon.SponError, match=r"values of shape \(25,\); allowed: \(samples, 16\)"):
        spon.Resampling(fine, V[0], coarse, V[1])(np.ones(25))
