"""Points to cells, on all cell types, straight and curved."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI
from test_canonical import CELLS, curved, shuffled

import spon
from meshes import box, mapped
from spon.fem import reference
from spon.fem.boxes import control_points
from spon.fem.geometry import Geometry
from spon.fem.location import Locator

TENSOR = ("quadrilateral", "hexahedron")


def inside(cell, n, rng):
    """Points inside the reference cell."""
    X = rng.random((n, 2 if cell in ("triangle", "quadrilateral") else 3))
    if cell not in TENSOR:
        X = np.sort(X, axis=1)
        X[:, 1:] -= X[:, :-1].copy()
    return X


def bulged(arrays):
    """A mesh of second order whose cells are curved."""
    return mapped(arrays, lambda x: [x[0] + 0.1 * np.sin(3 * x[1]), *(v + 0.08 * x[0] ** 2 for v in x[1:])])


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_points_are_found_where_they_were_made(cell, degree, rng):
    geometry = Geometry(bulged(shuffled(box(cell, 3, degree))))
    cells = np.repeat(np.arange(len(geometry.arrays.cells)), 5)
    X = inside(cell, len(cells), rng)
    found = Locator(geometry).find(geometry.points(cells, X))
    np.testing.assert_array_equal(found.cells, cells)
    np.testing.assert_allclose(found.X, X, atol=1e-12)


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_points_of_facets_go_to_the_lowest_cell(cell, degree):
    geometry = Geometry(bulged(shuffled(box(cell, 2, degree))))
    arrays = geometry.arrays
    found = Locator(geometry).find(arrays.points)
    x = geometry.points(found.cells, found.X)
    np.testing.assert_allclose(x, arrays.points, atol=1e-12)
    lowest = np.full(len(arrays.points), len(arrays.cells))
    np.minimum.at(lowest, arrays.cells, np.arange(len(arrays.cells))[:, None])
    np.testing.assert_array_equal(found.cells, lowest)


@pytest.mark.parametrize("cell", ["triangle", "tetrahedron", "quadrilateral"])
def test_stretched_and_graded_meshes_far_from_the_origin(cell, rng):
    def graded(x):
        thin = 1e-5 * np.expm1(9 * x[0]) / np.expm1(9)
        return [100 + x[1] + thin, x[1] - thin, *(v**4 for v in x[2:])]

    geometry = Geometry(mapped(shuffled(box(cell, 6)), graded))
    cells = np.repeat(np.arange(len(geometry.arrays.cells)), 3)
    x = geometry.points(cells, inside(cell, len(cells), rng))
    found = Locator(geometry).find(x)
    assert np.linalg.norm(geometry.points(found.cells, found.X) - x, axis=1).max() < 1e-11
    assert (found.X >= 0).all()
    assert (found.X <= 1).all()


@pytest.mark.parametrize("cell", CELLS)
def test_points_outside_are_refused_with_their_distance(cell):
    arrays = shuffled(box(cell, 2))
    points = np.full((3, arrays.gdim), 0.4)
    points[1, 0], points[2, 0] = -0.1, 1.25
    with pytest.raises(
        spon.SponError, match=r"2 of 3 points lie outside box: \(1.25, .* by 0.25; allowed: 1e-09"
    ):
        Locator(arrays).find(points)
    found = Locator(arrays).find(points, tolerance=0.3)
    x = Geometry(arrays).points(found.cells, found.X)
    np.testing.assert_allclose(x, np.clip(points, 0, 1), atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_the_nearest_point_of_curved_cells(cell, rng):
    geometry = Geometry(bulged(shuffled(box(cell, 2, 2))))
    locator = Locator(geometry)
    x = locator.geometry.arrays.points[rng.integers(len(geometry.arrays.points), size=40)]
    x = x + 0.3 * rng.standard_normal(x.shape)
    found = locator.find(x, outside="nearest")
    distance = np.linalg.norm(geometry.points(found.cells, found.X) - x, axis=1)
    everywhere = geometry.points(*geometry.everywhere(reference.lattice(cell, 12)))
    sampled = np.linalg.norm(x[:, None] - everywhere[None], axis=2).min(axis=1)
    assert (distance <= sampled + 1e-12).all()
    assert (sampled - distance).max() < 0.05
    assert np.count_nonzero(distance > 1e-3) > 5


def distorted(cell, seed):
    """Cells of second order with nodes anywhere near their places, and points in them; None if folded."""
    arrays = box(cell, 1, 2)
    moved = 0.2 * np.random.default_rng(seed).uniform(-1, 1, arrays.points.shape)
    try:
        geometry = Geometry(replace(arrays, points=arrays.points + moved))
    except spon.SponError:
        return None
    cells, X = geometry.everywhere(reference.lattice(cell, 9))
    size = np.linalg.det(geometry.jacobians(cells, X)).reshape(len(arrays.cells), -1)
    fine = (size * np.sign(size[:, :1])).min() > 0.02
    return (geometry, geometry.points(cells, X)) if fine else None


@pytest.mark.parametrize("cell", ["triangle", "quadrilateral", "hexahedron"])
def test_distorted_cells(cell):
    """Newton's method from the middle does not find all of these."""
    cases = [case for seed in range(40) if (case := distorted(cell, seed))]
    assert cases
    for geometry, x in cases:
        found = Locator(geometry).find(x, tolerance=0.0)
        np.testing.assert_allclose(geometry.points(found.cells, found.X), x, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_control_points_hold_the_cells(cell):
    arrays = box(cell, 1, 2)
    corners, hull = (
        arrays.points[arrays.corners],
        control_points(arrays),
    )  # straight: no larger than the cells
    np.testing.assert_allclose(hull.min(axis=1), corners.min(axis=1), atol=1e-14)
    np.testing.assert_allclose(hull.max(axis=1), corners.max(axis=1), atol=1e-14)
    rng = np.random.default_rng(5)
    arrays = SimpleNamespace(**vars(arrays), degree=2, gdim=arrays.gdim)
    arrays.points = arrays.points + 0.4 * rng.uniform(-1, 1, arrays.points.shape)  # may fold over
    hull = control_points(arrays)
    x = Geometry(arrays).points(*Geometry(arrays).everywhere(reference.lattice(cell, 8)))
    x = x.reshape(len(arrays.cells), -1, arrays.gdim)
    assert (x >= hull.min(axis=1)[:, None] - 1e-14).all()
    assert (x <= hull.max(axis=1)[:, None] + 1e-14).all()
    nodes = arrays.points[arrays.cells]
    assert (x.max(axis=1) > nodes.max(axis=1) + 1e-3).any()  # the nodes alone would not do


@pytest.mark.mpi
def test_all_ranks_find_the_same():
    world = MPI.COMM_WORLD
    arrays = mapped(shuffled(box("triangle", 4)), curved)
    points = np.random.default_rng(3).uniform(-0.1, 1.1, (200, 2))
    found = Locator(arrays).find(points, outside="nearest")
    everywhere = world.allgather((found.cells, found.X))
    for cells, X in everywhere:
        np.testing.assert_array_equal(cells, found.cells)
        np.testing.assert_array_equal(X, found.X)


def test_wrong_arguments_are_refused():
    locator = Locator(box("triangle", 2))
    with pytest.raises(spon.SponError, match=r"points of shape \(4, 3\); allowed: \(n, 2\)"):
        locator.find(np.zeros((4, 3)))
    with pytest.raises(spon.SponError, match=r"point 1 has coordinates .*; allowed: finite ones"):
        locator.find(np.array([[0, 0], [0, np.nan]]))
    with pytest.raises(spon.SponError, match="outside='drop'; allowed: 'refuse', 'nearest'"):
        locator.find(np.zeros((1, 2)), outside="drop")
    assert locator.find(np.zeros((0, 2))).X.shape == (0, 2)
