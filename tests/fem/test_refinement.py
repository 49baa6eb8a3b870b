from dataclasses import replace
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from conftest import MESHES, on_square, square
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from scipy.spatial import Delaunay

import spon
from meshes import box, mapped
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.geometry import Geometry
from spon.fem.measures import cell_measures, facet_measures
from spon.fem.readers import read_arrays
from spon.fem.refinement import children, nodal_prolongation, refine
from spon.fem.topology import Topology


@st.composite
def meshes(draw):
    """Delaunay triangulations of random points."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    points = rng.random((draw(st.integers(4, 40)), 2))
    triangulation = Delaunay(points)
    cells, hull = triangulation.simplices.astype(np.int64), triangulation.convex_hull.astype(np.int64)
    tags = np.ones(len(cells), np.int32), np.full(len(hull), 3, np.int32)
    return MeshArrays(points, cells, "triangle", tags[0], hull, tags[1], {"a": 1}, {"hull": 3})


def bent(x):
    """A smooth map that straight cells cannot follow."""
    return [c + 0.1 * np.sin(2 * x[k - 1]) for k, c in enumerate(x)]


def symmetries(cell_type: str, degree: int) -> np.ndarray:
    """The orders of nodes in which a cell is still the same cell, (symmetries, nodes)."""
    corners, own = reference.nodes(cell_type, 1), reference.nodes(cell_type, degree)
    if cell_type in ("triangle", "tetrahedron"):
        images = [corners[list(p)] for p in permutations(range(len(corners)))]
    else:
        axes, flips = permutations(range(corners.shape[1])), product([0, 1], repeat=corners.shape[1])
        images = [np.abs(corners[:, list(a)] - f) for a, f in product(axes, flips)]
    moved = reference.tabulate(cell_type, 1, own)[0] @ np.array(images)
    return np.abs(moved[:, :, None] - own).max(axis=3).argmin(axis=2)


def shuffled(arrays: MeshArrays, rng) -> MeshArrays:
    """The mesh with its points, cells and the nodes of each cell in random order."""
    order = rng.permutation(len(arrays.points))
    number = np.argsort(order)
    turns = symmetries(arrays.cell_type, arrays.degree)
    turn = turns[rng.integers(len(turns), size=len(arrays.cells))]
    cells = np.take_along_axis(number[arrays.cells], turn, axis=1)[rng.permutation(len(arrays.cells))]
    return replace(arrays, points=arrays.points[order], cells=cells, facets=number[arrays.facets])


@pytest.fixture(params=[(c, d) for c in reference.CELL_TYPES for d in (1, 2)], ids=lambda p: f"{p[0]}{p[1]}")
def coarse(request, rng):
    return shuffled(mapped(box(request.param[0], 2, request.param[1]), bent), rng)


def sizes(arrays):
    return {n: facet_measures(arrays)[arrays.facet_tags == t].sum() for n, t in arrays.facet_names.items()}


def test_the_map_of_a_child_is_that_of_its_parent(coarse, rng):
    mesh = coarse
    for _ in range(2 if mesh.tdim == 2 else 1):
        fine, nesting = refine(mesh)
        cells = rng.integers(len(fine.cells), size=400)
        X = reference.nodes(fine.cell_type, 1)
        X = rng.dirichlet(np.ones(len(X)), size=400) @ X
        parents, above = nesting.locate(cells, X)
        np.testing.assert_allclose(
            Geometry(fine).points(cells, X), Geometry(mesh).points(parents, above), rtol=0, atol=1e-14
        )
        np.testing.assert_array_equal(parents, nesting.parents[cells])
        mesh = fine


def test_children_fill_their_parents_and_tags_are_inherited(coarse):
    fine, nesting = refine(coarse)
    per = len(fine.cells) // len(coarse.cells)
    assert per == {2: 4, 3: 8}[coarse.tdim]
    np.testing.assert_array_equal(nesting.parents, np.repeat(np.arange(len(coarse.cells)), per))
    np.testing.assert_array_equal(fine.cell_tags, coarse.cell_tags[nesting.parents])
    np.testing.assert_allclose(
        np.bincount(nesting.parents, cell_measures(fine)), cell_measures(coarse), rtol=1e-12
    )
    assert sizes(fine) == pytest.approx(sizes(coarse), rel=1e-9)
    assert len(fine.facets) == len(coarse.facets) * 2 ** (coarse.tdim - 1)
    assert sum(sizes(fine).values()) == pytest.approx(
        facet_measures(fine, np.flatnonzero(Topology(fine).facet_cells == 1)).sum()
    )


def test_coarse_points_come_first_and_neighbours_share_the_new_ones(coarse):
    fine, _ = refine(coarse)
    np.testing.assert_array_equal(fine.points[: len(coarse.points)], coarse.points)
    distance = np.linalg.norm(fine.points[:, None] - fine.points[None], axis=2)
    assert distance[~np.eye(len(distance), dtype=bool)].min() > 1e-3
    if coarse.degree == 1:
        edges = Topology(coarse).entities(1)[0]
        at = fine.points[len(coarse.points) :][: len(edges)]
        np.testing.assert_allclose(at, coarse.points[edges].mean(axis=1), atol=1e-15)


def test_the_order_of_new_points_follows_from_the_input(coarse):
    (a, _), (b, _) = refine(coarse), refine(coarse)
    np.testing.assert_array_equal(a.points, b.points)
    np.testing.assert_array_equal(a.cells, b.cells)


@pytest.mark.parametrize("cell_type", reference.CELL_TYPES)
def test_children_of_a_reference_cell_keep_its_orientation(cell_type):
    origins, matrices, ways = children(cell_type)
    tdim = matrices.shape[1]
    np.testing.assert_allclose(np.linalg.det(matrices), 0.5**tdim, rtol=1e-14)
    assert len(origins) == len(set(ways.ravel().tolist()))


def test_octahedra_are_cut_along_their_shortest_diagonal():
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.9, 0.8, 0.3]])
    tetrahedron = MeshArrays(
        corners,
        np.arange(4)[None],
        "tetrahedron",
        np.ones(1, np.int32),
        np.empty((0, 3), np.int64),
        np.empty(0, np.int32),
        {"a": 1},
        {},
    )
    fine, _ = refine(tetrahedron)
    middles = {(a, b): (corners[a] + corners[b]) / 2 for a in range(4) for b in range(a)}
    opposite = [((1, 0), (3, 2)), ((2, 0), (3, 1)), ((3, 0), (2, 1))]
    shortest = min(np.linalg.norm(middles[a] - middles[b]) for a, b in opposite)
    edges = Topology(fine).entities(1)[0]
    inner = edges[(edges >= 4).all(axis=1)]
    lengths = np.linalg.norm(fine.points[inner[:, 0]] - fine.points[inner[:, 1]], axis=1)
    assert len(inner) == 13
    assert np.isclose(lengths, shortest).any()
    longest = max(np.linalg.norm(middles[a] - middles[b]) for a, b in opposite)
    assert not np.isclose(lengths, longest).any()


@given(meshes())
def test_triangulations_fill_their_parents(coarse):
    fine, nesting = refine(coarse)
    np.testing.assert_allclose(cell_measures(fine) * 4, cell_measures(coarse)[nesting.parents])
    centres = fine.points[fine.cells].mean(axis=1).reshape(-1, 4, 2).mean(axis=1)
    np.testing.assert_allclose(centres, coarse.points[coarse.cells].mean(axis=1))
    assert sizes(fine) == pytest.approx(sizes(coarse))


@given(meshes(), st.integers(0, 100))
def test_prolongation_is_exact_for_every_coarse_function(coarse, seed):
    fine, nesting = refine(coarse)
    prolongation = nodal_prolongation(coarse, fine, nesting)
    slope = np.random.default_rng(seed).standard_normal(2)
    np.testing.assert_allclose(
        prolongation @ (coarse.points @ slope + 1), fine.points @ slope + 1, atol=1e-13
    )
    np.testing.assert_array_equal(
        (prolongation @ np.eye(len(coarse.points)))[: len(coarse.points)], np.eye(len(coarse.points))
    )


def test_boundaries_keep_their_lengths_on_the_plate():
    coarse = read_arrays(MESHES / "plate.geo")
    fine, _ = refine(coarse)
    assert sizes(fine) == pytest.approx(sizes(coarse))


@pytest.mark.mpi
def test_galerkin_coarse_operators_are_the_assembled_ones():
    hierarchy = on_square(3, 2, MPI.COMM_WORLD)
    space = spon.lagrange(hierarchy.finest)
    levels = spon.discretise(hierarchy, space, spon.dirichlet(hierarchy.finest, space, {"left": 0.0})).levels
    for fine, coarse in pairwise(levels):
        for gram in ("mass", "stiffness"):
            galerkin = fine.prolongation.T @ getattr(fine, gram) @ fine.prolongation
            assert abs(galerkin - getattr(coarse, gram)).max() < 1e-13


def test_bad_numbers_are_refused():
    with pytest.raises(spon.SponError, match=r"refinements = -1; allowed: 0, 1"):
        on_square(2, -1)
    second = box("triangle", 1, 2)
    with pytest.raises(spon.SponError, match="second-order cells"):
        nodal_prolongation(second, *refine(second))
    assert refine(square(2))[0].gdim == 2
