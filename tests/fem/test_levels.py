"""Levels of a hierarchy: nested, independent and algebraic; cell types × degrees."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from mpi4py import MPI
from test_canonical import CELLS, polynomial, shuffled, some_mesh

import spon
from meshes import box, mapped
from spon.fem.aggregation import aggregates
from spon.fem.mesh import TaggedMesh
from spon.level import restriction

WORLD = MPI.COMM_WORLD
TENSOR = ("quadrilateral", "hexahedron")
FAST = [
    ("triangle", 1),
    ("triangle", 3),
    ("quadrilateral", 2),
    ("tetrahedron", 2),
    ("hexahedron", 1),
]
FULL = [(cell, degree) for cell in CELLS for degree in (1, 2, 3) if (cell, degree) != ("hexahedron", 3)]


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        kinds = FULL if metafunc.config.getoption("--full") else FAST
        metafunc.parametrize("kind", kinds, ids=["-".join(map(str, k)) for k in kinds])


def levels_of(hierarchy, degree, fixed=("left",)):
    space = spon.lagrange(hierarchy.finest, degree)
    constraint = spon.dirichlet(hierarchy.finest, space, dict.fromkeys(fixed, 0.0))
    return spon.discretise(hierarchy, space, constraint).levels


@pytest.mark.mpi
def test_nested_levels_are_exact(kind):
    """Prolongation of polynomials, PᵀKP = K, PᵀMP = M, R adjoint to P."""
    cell, degree = kind
    coarse = TaggedMesh(shuffled(box(cell, 2)), WORLD)
    levels = levels_of(spon.Hierarchy.uniform(coarse, 1), degree)
    assert len(levels) == 2 + (degree > 1)
    rng = np.random.default_rng(0)
    for fine, low in pairwise(levels):
        P = fine.prolongation
        exact = 1 if cell in TENSOR else low.reference.degree
        p = polynomial(low.gdim, exact, 1)
        np.testing.assert_allclose(P @ p(low.points.T)[0], p(fine.points.T)[0], atol=1e-12)
        for gram in ("mass", "stiffness"):
            galerkin = P.T @ getattr(fine, gram) @ P
            assert abs(galerkin - getattr(low, gram)).max() < 1e-13
        x, y = rng.standard_normal(len(low.points)), rng.standard_normal(len(fine.points))
        assert (P @ x) @ y == pytest.approx(x @ (P.T @ y), rel=1e-12)
        R = restriction(fine, low)
        assert (low.lumped_mass * (R @ y)) @ x == pytest.approx((fine.lumped_mass * y) @ (P @ x), rel=1e-12)
        left = low.points[:, 0] == 0.0
        np.testing.assert_array_equal(low.fixed, left)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("degree", [1, 2])
def test_curved_cells_keep_their_shape_and_their_functions(cell, degree):
    curved = some_mesh(cell, 2, degree=2, comm=MPI.COMM_SELF)
    fine, *_, low = levels_of(spon.Hierarchy.uniform(curved, 1), degree)
    assert fine.mass.sum() == pytest.approx(low.mass.sum(), rel=1e-13)
    P = fine.prolongation if degree == 1 else fine.prolongation @ levels_of_p1(curved)
    assert abs(P.T @ fine.mass @ P - low.mass).max() < 1e-13


def levels_of_p1(mesh):
    return spon.Hierarchy.uniform(mesh, 1).prolongation(0)


def test_tables_of_a_level_differentiate_and_integrate(kind):
    cell, degree = kind
    mesh = TaggedMesh(shuffled(box(cell, 2)), MPI.COMM_SELF)
    level = levels_of(spon.Hierarchy.uniform(mesh, 0), degree)[0]
    d = level.gdim
    slope, p = np.arange(1.0, d + 1), polynomial(d, degree if cell not in TENSOR else 1, 1)
    n = len(level.weights)
    np.testing.assert_allclose(level.gradient @ (level.points @ slope), np.repeat(slope, n), atol=1e-12)
    weights = sp.diags_array(np.tile(level.weights, d))
    assert abs(level.gradient.T @ weights @ level.gradient - level.stiffness).max() < 1e-12
    assert level.weights.sum() == pytest.approx(1.0, abs=1e-13)
    assert level.lumped_mass.sum() == pytest.approx(1.0, abs=1e-12)
    assert level.lumped_mass.min() > 0
    step = 1e-6
    for k, recovered in enumerate(level.recovered_gradient):
        up, down = (p((level.points + s * step * np.eye(d)[k]).T)[0] for s in (1, -1))
        np.testing.assert_allclose(recovered @ p(level.points.T)[0], (up - down) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("cell", ["triangle", "tetrahedron"])
def test_recovered_gradients_are_means_weighted_with_the_mass(cell, rng):
    """So that the mean of the gradient over the domain is kept, on cells of any size."""
    uneven = mapped(shuffled(box(cell, 3)), lambda x: [x[0] ** 2, *x[1:]])
    level = levels_of(spon.Hierarchy.uniform(TaggedMesh(uneven, MPI.COMM_SELF), 0), 1)[0]
    u = rng.standard_normal(len(level.points))
    slopes = (level.gradient @ u).reshape(level.gdim, -1)
    found = [level.lumped_mass @ (recovered @ u) for recovered in level.recovered_gradient]
    np.testing.assert_allclose(found, slopes @ level.weights, atol=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize("cell", ["triangle", "quadrilateral", "tetrahedron"])
def test_independent_meshes_prolong_linear_functions(cell):
    sizes = (7, 4, 3) if cell != "tetrahedron" else (4, 3, 2)
    meshes = tuple(TaggedMesh(shuffled(box(cell, n), seed=n), WORLD) for n in sizes)
    levels = levels_of(spon.Hierarchy.independent(meshes), 2)
    assert len(levels) == 4
    for fine, low in pairwise(levels):
        slope = np.arange(1.0, fine.gdim + 1)
        np.testing.assert_allclose(
            fine.prolongation @ (low.points @ slope + 1), fine.points @ slope + 1, atol=1e-12
        )
        np.testing.assert_array_equal(low.fixed, low.points[:, 0] == 0.0)


def test_independent_meshes_of_a_curved_geometry():
    """Nodes of the finer mesh outside the coarser polygon take the value at the nearest point."""

    def disc(n):
        arrays = box("quadrilateral", n)
        return mapped(
            arrays,
            lambda x: [
                (2 * a - 1) * np.sqrt(np.maximum(1 - (2 * b - 1) ** 2 / 2, 0))
                for a, b in ((x[0], x[1]), (x[1], x[0]))
            ],
        )

    meshes = tuple(TaggedMesh(disc(n), MPI.COMM_SELF) for n in (12, 5))
    P = levels_of(spon.Hierarchy.independent(meshes, tolerance=0.1), 1)[0].prolongation
    np.testing.assert_allclose(P @ np.ones(P.shape[1]), 1.0, atol=1e-14)
    assert P.min() >= -1e-14
    with pytest.raises(spon.SponError, match=r"outside"):
        levels_of(spon.Hierarchy.independent(meshes, tolerance=1e-6), 1)


@pytest.mark.mpi
@pytest.mark.parametrize(("cell", "degree"), [("triangle", 2), ("hexahedron", 1)])
def test_algebraic_levels(cell, degree, rng):
    n = 12 if cell == "triangle" else 6
    mesh = TaggedMesh(shuffled(box(cell, n)), WORLD)
    levels = levels_of(spon.Hierarchy.algebraic(mesh, 2), degree)
    first = 1 if degree > 1 else 0
    assert len(levels) == 3 + first
    for fine, low in pairwise(levels[first:]):
        P = fine.prolongation
        assert len(low.points) < len(fine.points) / 4
        np.testing.assert_allclose(P @ np.ones(P.shape[1]), 1.0, atol=1e-13)
        np.testing.assert_allclose(low.lumped_mass.sum(), 1.0, atol=1e-12)
        x = np.random.default_rng(1).standard_normal(P.shape[1])
        weights = np.tile(low.weights, low.gdim)
        assert x @ (low.stiffness @ x) == pytest.approx(weights @ (low.gradient @ x) ** 2, rel=1e-10)
        assert low.fixed.any()
        assert not low.fixed.all()
        np.testing.assert_array_equal(low.points[low.fixed][:, 0], 0.0)
        # smoothing lowers the energy of the indicator functions
        number, roots = aggregates(fine.stiffness, fine.fixed)
        assert len(roots) == P.shape[1]
        T = sp.csr_array((np.ones(len(number)), (np.arange(len(number)), number)))
        assert low.stiffness.trace() < 0.8 * (T.T @ fine.stiffness @ T).trace()


def test_aggregates_cover_the_graph_and_do_not_mix_fixed_nodes():
    mesh = TaggedMesh(shuffled(box("triangle", 20)), MPI.COMM_SELF)
    level = levels_of(spon.Hierarchy.uniform(mesh, 0), 1, ("left", "top"))[0]
    number, roots = aggregates(level.stiffness, level.fixed)
    assert sorted(set(number)) == list(range(len(roots)))
    np.testing.assert_array_equal(number[roots], np.arange(len(roots)))
    np.testing.assert_array_equal(level.fixed, level.fixed[roots][number])
    distance = np.linalg.norm(level.points - level.points[roots][number], axis=1)
    assert distance.max() <= 2 * np.sqrt(2) / 20 + 1e-12
    with pytest.raises(spon.SponError, match="cannot be aggregated any further"):
        levels_of(spon.Hierarchy.algebraic(mesh, 20), 1)


def test_bad_hierarchies_are_refused():
    mesh = TaggedMesh(box("triangle", 2), MPI.COMM_SELF)
    finer = TaggedMesh(box("triangle", 4), MPI.COMM_SELF)
    cube = TaggedMesh(box("tetrahedron", 1), MPI.COMM_SELF)
    with pytest.raises(spon.SponError, match=r"refinements = -1; allowed: 0, 1"):
        spon.Hierarchy.uniform(mesh, -1)
    with pytest.raises(spon.SponError, match=r"levels = -1; allowed: 0, 1"):
        spon.Hierarchy.algebraic(mesh, -1)
    with pytest.raises(spon.SponError, match="allowed: finest first"):
        spon.Hierarchy.independent((mesh, finer))
    with pytest.raises(spon.SponError, match="is 2-D, box 3-D; allowed: meshes of one geometry"):
        spon.Hierarchy.independent((mesh, cube))
