"""Canonical vectors as live functions and as values at points."""

import basix.ufl
import numpy as np
import pytest
from dolfinx import fem
from mpi4py import MPI
from test_canonical import CELLS, some_mesh

import spon
from meshes import box
from spon.fem.canonical import CanonicalOrder
from spon.fem.decode import dofs_of
from spon.fem.mesh import TaggedMesh
from spon.fem.spaces import CanonicalSpace

WORLD = MPI.COMM_WORLD
ELEMENTS = [("P", 2, None), ("DG", 1, (2,)), ("RT", 1, None), ("N1curl", 2, None)]
CASES = [
    (cell, *element) for cell in CELLS for element in ELEMENTS if cell != "hexahedron" or element[1] == 1
]


@pytest.mark.mpi
@pytest.mark.parametrize(("cell", "family", "degree", "shape"), CASES)
def test_point_values_are_those_of_dolfinx(cell, family, degree, shape):
    mesh = some_mesh(cell, degree=2)
    gdim = mesh.arrays.gdim
    order = CanonicalOrder(
        mesh, fem.functionspace(mesh.dolfinx, (family, degree, *([shape] if shape else [])))
    )
    values = np.random.default_rng(1).standard_normal((2, order.size))
    functions = [spon.decode(order, v) for v in values]
    np.testing.assert_allclose(dofs_of(order, functions[0]), values[0], atol=1e-12)
    # points inside the cells of this rank: on facets DOLFINx takes another cell
    topology = mesh.dolfinx.topology
    mine = topology.index_map(gdim).size_local
    X = np.tile([[0.31, 0.22, 0.17][:gdim], [0.1, 0.6, 0.2][:gdim]], (mine, 1))
    cells = np.repeat(np.arange(mine), 2)
    x = mesh.geometry.points(topology.original_cell_index[cells], X)
    padded = np.pad(x, ((0, 0), (0, 3 - gdim)))
    expected = [f.eval(padded, cells.astype(np.int32)).reshape(len(x), -1) for f in functions]
    found = spon.point_values(order, values, x)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_array_equal(spon.point_values(order.canonical, values[0], x), found[0])


@pytest.mark.mpi
def test_ghosts_of_decoded_functions_are_up_to_date():
    mesh = some_mesh("tetrahedron")
    order = CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, ("RT", 2)))
    function = spon.decode(order, np.random.default_rng(2).standard_normal(order.size), name="q")
    before = function.x.array.copy()
    function.x.scatter_forward()
    np.testing.assert_array_equal(function.x.array, before)
    assert function.name == "q"


def test_components_of_mixed_spaces_are_stacked():
    mesh = TaggedMesh(box("quadrilateral", 3), MPI.COMM_SELF)
    parts = [
        basix.ufl.element("P", "quadrilateral", 1, shape=(2,)),
        basix.ufl.element("P", "quadrilateral", 1),
    ]
    space = CanonicalSpace(mesh, basix.ufl.mixed_element(parts))
    x, y = mesh.arrays.points.T
    values = np.concatenate([np.stack([x + y, x * y], axis=1).ravel(), 1 - y])
    points = np.array([[0.2, 0.7], [0.5, 0.5], [1.0, 0.0]])
    x, y = points.T
    np.testing.assert_allclose(spon.point_values(space, values, points), np.stack([x + y, x * y, 1 - y], 1))
    assert spon.point_values(space, values, points[:0]).shape == (0, 3)
    assert spon.point_values(space, values[None][:0], points).shape == (0, 3, 3)


@pytest.mark.mpi
def test_wrong_arguments_are_refused():
    mesh = some_mesh("triangle")
    order, other = (CanonicalOrder(mesh, fem.functionspace(mesh.dolfinx, ("P", k))) for k in (1, 2))
    with pytest.raises(spon.SponError, match=r"values of shape \(3,\); allowed: \(9,\)"):
        spon.decode(order, np.zeros(3))
    with pytest.raises(spon.SponError, match=r"values of shape \(3,\); allowed: \(9,\) or \(samples, 9\)"):
        spon.point_values(order, np.zeros(3), np.zeros((1, 2)))
    with pytest.raises(spon.SponError, match="1 of 1 points lie outside"):
        spon.point_values(order, np.zeros(9), np.array([[5.0, 5.0]]))
    with pytest.raises(spon.SponError, match="'u' is of another space than P1 triangle"):
        dofs_of(order, spon.decode(other, np.zeros(other.size), name="u"))
