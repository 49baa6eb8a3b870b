from itertools import pairwise

import numpy as np
import pytest

import spon
from spon.data.grids import Grid


@pytest.mark.parametrize(
    ("cell_type", "counts", "nested"),
    [
        ("triangle", (8, 4), 1),
        ("quadrilateral", (6, 4), 1),
        ("tetrahedron", (4, 4, 8), 1),
        ("hexahedron", (3, 4, 4), 0),
    ],
)
def test_functions_on_grids_are_exact(cell_type, counts, nested):
    dim = len(counts)
    limits = [(0.0, 2.0), (-1.0, 1.0), (3.0, 4.0)][:dim]
    axes = [np.linspace(*ends, n + 1) for ends, n in zip(limits, counts, strict=True)]
    X = np.meshgrid(*axes[::-1], indexing="ij")[::-1]  # arrays (nz, ny, nx)

    def function(x):
        return 1 + x[0] - 2 * x[1] + (x[0] * x[1] if "lateral" in cell_type else x[dim - 1])

    u = np.stack([function(X), 2 * function(X)])
    middles = np.meshgrid(*[(a[1:] + a[:-1]) / 2 for a in axes[::-1]], indexing="ij")[::-1]
    c = np.stack([function(middles)] * 2)
    v = np.stack([u, -u], axis=-1)
    box_ = [end for ends in limits for end in ends]
    d = spon.import_grid(
        {"v": v, "c": c, "t": np.array([1.0, 2.0])}, ("u", u), box_, centred=["c"], cell_type=cell_type
    )
    space, fine = d.discretisation, d.discretisation.levels[0]
    np.testing.assert_allclose(d.outputs[0], function(fine.points.T), atol=1e-13)
    np.testing.assert_allclose(d.input("v")[1].reshape(-1, 2)[:, 1], -2 * function(fine.points.T), atol=1e-13)
    volume = np.prod(np.ptp(limits, axis=1))
    assert space.output.mass.sum() == pytest.approx(volume)
    # the integral of each piecewise constant over the cells of the grid is that of the array
    assert space.inputs["c"].mass.sum(axis=1) @ d.input("c")[0] == pytest.approx(c[0].mean() * volume)
    assert len(fine.cells) == np.prod(counts) * {"triangle": 2, "tetrahedron": 6}.get(cell_type, 1)
    nests = [one for one in space.levels if one.finer is None]
    assert len(nests) == nested + 1
    for one, coarse in pairwise(nests):
        np.testing.assert_allclose(one.prolongation @ coarse.points, one.points, atol=1e-13)
    for name, k in zip(("left", "right", "bottom", "top", "front", "back"), range(2 * dim), strict=False):
        there = fine.points[np.unique(space.boundaries[name])]
        np.testing.assert_allclose(there[:, k // 2], limits[k // 2][k % 2], atol=1e-14)
        assert len(there) == np.prod(np.delete(np.array(counts) + 1, k // 2))


def test_centred_grids_become_the_cells_of_a_mesh(rng):
    c = rng.standard_normal((3, 4, 6))
    d = spon.import_grid({"c": c}, ("u", 2 * c), centred=True)
    assert d.discretisation.output.element == "DP0 quadrilateral"
    mesh = Grid((6, 4), (0, 1, 0, 1), "quadrilateral").hierarchy().finest.arrays
    i, j = np.floor(mesh.centroids * [6, 4]).astype(int).T
    np.testing.assert_array_equal(d.inputs, c[:, j, i])
    np.testing.assert_array_equal(d.outputs, 2 * d.inputs)


def test_odd_grids_get_algebraic_levels():
    assert len(Grid((64, 32), (0, 1, 0, 1)).hierarchy().meshes) == 5
    odd = Grid((31, 31), (0, 1, 0, 1)).hierarchy()
    assert (len(odd.meshes), odd.aggregations) == (1, 2)


G = np.ones((3, 5, 9))


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ({"a": np.ones((3, 5, 8))}, {}, "output 'u' has a grid of 4 x 8 cells, input 'a' one of 4 x 7"),
        ({"a": np.ones((3, 45))}, {}, r"input 'a' of shape \(3, 45\); .* or at a=parameters"),
        ({"a": np.ones((3, 2, 5, 9))}, {"box": (0, 1, 0, 1, 0, 1)}, "output 'u' of shape .* in 3-D: "),
        ({"a": np.ones((3, 5, 9, 20))}, {}, "would have 20 components; allowed: 9, or a box of six numbers"),
        ({"a": G}, {"box": (0, 0, 0, 1)}, "box 0, 0, 0, 1; allowed: x0, x1, y0, y1"),
        ({"a": G}, {"box": (0, 1)}, "box of 2 numbers"),
        ({"a": G}, {"cell_type": "hexahedron"}, "cells hexahedron; allowed in 2-D: triangle, quadrilateral"),
        ({"a": G}, {"levels": 7}, "7 nested levels on 8 x 4 cells; allowed: 0 to 1"),
        ({"a": G}, {"centred": ["b"]}, "'b' is centred; there are: a, u"),
        ({"a": G + np.inf}, {}, "input 'a': 135 values are not finite"),
    ],
)
def test_arrays_that_are_not_on_one_grid_are_refused(inputs, options, message):
    with pytest.raises(spon.SponError, match=message):
        spon.import_grid(inputs, ("u", G), **options)
