import numpy as np
import pytest
import ufl
from dolfinx import fem
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from test_canonical import CELLS, shuffled

import spon
from meshes import box
from spon.fem.mesh import TaggedMesh
from spon.fem.partition import bisected, destinations

WORLD = MPI.COMM_WORLD


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 1000))
def test_parts_have_equal_sizes(parts, n, seed):
    points = np.random.default_rng(seed).integers(0, 4, (n, 2)).astype(float)  # many coincide
    sizes = np.bincount(bisected(points, parts), minlength=parts)
    assert len(sizes) == parts
    assert sizes.sum() == n
    assert np.ptp(sizes) <= 2 * np.ceil(np.log2(parts) + 1)


def test_parts_are_compact():
    arrays = box("quadrilateral", 16)
    owner = bisected(arrays.centroids, 4)
    np.testing.assert_array_equal(np.bincount(owner), 64)
    for part in range(4):
        assert np.ptp(arrays.centroids[owner == part], axis=0).max() < 0.5


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_cells_at_facets_between_ranks_are_shared_and_no_others(cell, parts):
    arrays = shuffled(box(cell, 3))
    alone, offsets = destinations(arrays, parts, shared=False)
    np.testing.assert_array_equal(offsets, np.arange(len(arrays.cells) + 1))
    ranks, offsets = destinations(arrays, parts, shared=True)
    np.testing.assert_array_equal(ranks[offsets[:-1]], alone)
    sides = [{frozenset(side) for side in cell_sides} for cell_sides in arrays.sides.tolist()]
    for number, mine in enumerate(sides):
        expected = {alone[k] for k, other in enumerate(sides) if mine & other} - {alone[number]}
        found = ranks[offsets[number] + 1 : offsets[number + 1]].tolist()
        assert sorted(found) == sorted(expected)


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_interior_facets_are_integrated_over_once(cell):
    found = []
    for comm in (WORLD, MPI.COMM_SELF):
        mesh = TaggedMesh(shuffled(box(cell, 3)), comm)
        V = fem.functionspace(mesh.dolfinx, ("DG", 0))
        f = fem.Function(V)
        f.interpolate(lambda x: x[0] + 2 * x[1])
        f.x.scatter_forward()
        jump = fem.form(ufl.jump(f) ** 2 * ufl.dS + 1.0 * ufl.dS(domain=mesh.dolfinx))
        found.append(comm.allreduce(fem.assemble_scalar(jump)))
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    single = TaggedMesh(shuffled(box(cell, 3)), WORLD, shared=False)
    assert single.dolfinx.topology.index_map(single.arrays.tdim).num_ghosts == 0
    assert single.unshared is single


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("element", [("Lagrange", 2), ("RT", 2), ("N1curl", 2), ("DG", 1)])
def test_ranks_may_be_without_cells(cell, element, shared_folder):
    mesh = TaggedMesh(box(cell, 1), WORLD)
    space = fem.functionspace(mesh.dolfinx, element)
    made = spon.discretise(spon.Hierarchy.uniform(mesh, 0), space)
    order = spon.CanonicalOrder(mesh, space)
    values = np.random.default_rng(0).standard_normal(order.size)
    function = spon.decode(order, values)
    np.testing.assert_allclose(order.gather(function.x.array), values, atol=1e-13)
    square = WORLD.allreduce(fem.assemble_scalar(fem.form(ufl.inner(function, function) * ufl.dx)))
    assert values @ (made.output.mass @ values) == pytest.approx(square, rel=1e-11)
    spon.write(shared_folder / "f.bp", order, {"f": values})
    spon.write(shared_folder / "f.vtu", order, {"f": values})
