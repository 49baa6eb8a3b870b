from itertools import pairwise

import numpy as np
import pytest
from conftest import MESHES, on_square, square
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from scipy.spatial import Delaunay

import spon
from spon.fem.arrays import MeshArrays
from spon.fem.readers import read_arrays
from spon.fem.refinement import refine


def areas(mesh):
    a, b, c = mesh.points[mesh.cells].transpose(1, 0, 2)
    return 0.5 * np.abs(np.linalg.det(np.stack([b - a, c - a], axis=1)))


def lengths(mesh, tag):
    ends = mesh.points[mesh.facets[mesh.facet_tags == tag]]
    return np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum()


@st.composite
def meshes(draw):
    """Delaunay triangulations of random points."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    points = rng.random((draw(st.integers(4, 40)), 2))
    triangulation = Delaunay(points)
    cells, hull = triangulation.simplices.astype(np.int64), triangulation.convex_hull.astype(np.int64)
    tags = np.ones(len(cells), np.int32), np.full(len(hull), 3, np.int32)
    return MeshArrays(points, cells, "triangle", tags[0], hull, tags[1], {"a": 1}, {"hull": 3})


@given(meshes())
def test_children_fill_their_parents(coarse):
    fine, _ = refine(coarse)
    np.testing.assert_allclose(areas(fine).reshape(-1, 4), np.repeat(areas(coarse)[:, None] / 4, 4, 1))
    centres = fine.points[fine.cells].mean(axis=1).reshape(-1, 4, 2).mean(axis=1)
    np.testing.assert_allclose(centres, coarse.points[coarse.cells].mean(axis=1))
    assert lengths(fine, 3) == pytest.approx(lengths(coarse, 3))


@given(meshes(), st.integers(0, 100))
def test_prolongation_is_exact_for_every_coarse_function(coarse, seed):
    fine, prolongation = refine(coarse)
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
    for tag in coarse.facet_names.values():
        assert lengths(fine, tag) == pytest.approx(lengths(coarse, tag))


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
    tetrahedron = MeshArrays(
        np.eye(4)[:, :3],
        np.arange(4)[None],
        "tetrahedron",
        np.ones(1, np.int32),
        np.empty((0, 3), np.int64),
        np.empty(0, np.int32),
        {"a": 1},
        {},
    )
    with pytest.raises(spon.SponError, match="cannot refine tetrahedron cells; allowed: triangle"):
        refine(tetrahedron)
    assert refine(square(2))[0].gdim == 2
