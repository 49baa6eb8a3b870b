"""Meshes that a DOLFINx script already has."""

import numpy as np
import pytest
import ufl
from dolfinx import fem, mesh
from mpi4py import MPI
from test_canonical import CELLS

import spon

WORLD = MPI.COMM_WORLD


def unit_box(kind, comm=WORLD):
    if kind in ("triangle", "quadrilateral"):
        return mesh.create_unit_square(comm, 5, 4, mesh.CellType[kind])
    return mesh.create_unit_cube(comm, 3, 4, 2, mesh.CellType[kind])


SIDES = {"left": lambda x: np.isclose(x[0], 0.0), "right": lambda x: np.isclose(x[0], 1.0)}


@pytest.mark.mpi
@pytest.mark.parametrize("kind", CELLS)
def test_a_live_mesh_is_taken_as_it_is(kind):
    live = unit_box(kind)
    tagged = spon.from_dolfinx(live, SIDES)
    assert tagged.dolfinx is live
    alone = spon.from_dolfinx(unit_box(kind, MPI.COMM_SELF), SIDES)
    np.testing.assert_array_equal(tagged.arrays.cells, alone.arrays.cells)
    np.testing.assert_array_equal(tagged.arrays.points, alone.arrays.points)
    np.testing.assert_array_equal(tagged.arrays.facets, alone.arrays.facets)
    for name in SIDES:
        area = WORLD.allreduce(fem.assemble_scalar(fem.form(1.0 * tagged.ds(name))))
        assert area == pytest.approx(1.0, abs=1e-12)
    V = fem.functionspace(live, ("RT", 1))
    f = fem.Function(V)
    f.interpolate(lambda x: np.stack([x[k] * 0 + k + 1 for k in range(live.geometry.dim)]))
    d = spon.discretise(spon.Hierarchy.uniform(tagged, 0), V, spon.slip(tagged, V, ["left"]))
    values = spon.Dofs(tagged, V)(f)
    expected = sum((k + 1) ** 2 for k in range(live.geometry.dim))
    assert values @ (d.output.mass @ values) == pytest.approx(expected, rel=1e-12)


@pytest.mark.mpi
def test_tags_by_number_and_by_name():
    live = unit_box("triangle")
    found = [mesh.locate_entities_boundary(live, 1, marker) for marker in SIDES.values()]
    facets, values = np.concatenate(found), np.repeat(np.int32([7, 9]), [len(f) for f in found])
    order = np.argsort(facets)
    tags = mesh.meshtags(live, 1, facets[order], values[order])
    inner = mesh.locate_entities(live, 2, lambda x: x[0] <= 0.6 + 1e-9)
    cell_tags = mesh.meshtags(live, 2, inner, np.full(len(inner), 4, np.int32))
    numbered = spon.from_dolfinx(live, facet_tags=tags, cell_tags=cell_tags)
    assert numbered.arrays.facet_names == {"7": 7, "9": 9}
    assert numbered.arrays.cell_names == {"4": 4}
    assert len(numbered.arrays.cells_named("4")) == 24
    named = spon.from_dolfinx(live, {"outlet": 9}, tags, {"soft": 4}, cell_tags)
    length = WORLD.allreduce(fem.assemble_scalar(fem.form(1.0 * named.ds("outlet"))))
    assert length == pytest.approx(1.0)
    x = ufl.SpatialCoordinate(live)
    moment = WORLD.allreduce(fem.assemble_scalar(fem.form(x[0] * named.ds("outlet"))))
    assert moment == pytest.approx(1.0)
    assert list(named.arrays.cell_names) == ["soft"]


@pytest.mark.mpi
def test_a_refined_mesh_and_one_of_second_order():
    live = unit_box("triangle")
    live.topology.create_entities(1)
    finer = mesh.refine(live)[0]
    tagged = spon.from_dolfinx(finer, SIDES)
    assert len(tagged.arrays.cells) == 160
    V = fem.functionspace(finer, ("Lagrange", 1))
    f = fem.Function(V)
    f.interpolate(lambda x: 1 + x[0] + 2 * x[1])
    np.testing.assert_allclose(spon.Dofs(tagged, V)(f), 1 + tagged.arrays.points @ [1, 2], atol=1e-14)


@pytest.mark.mpi
def test_unsuitable_meshes_and_names_are_refused():
    live = unit_box("triangle")
    with pytest.raises(spon.SponError, match="boundary 'middle' has no facets in the mesh"):
        spon.from_dolfinx(live, {"middle": lambda x: np.isclose(x[0], 0.5)})
    with pytest.raises(spon.SponError, match="given by tags, but no facet_tags"):
        spon.from_dolfinx(live, {"inlet": 3})
    with pytest.raises(spon.SponError, match="more than one boundary: edge, left"):
        spon.from_dolfinx(live, {**SIDES, "edge": lambda x: np.isclose(x[0], 0.0)})
    with pytest.raises(spon.SponError, match="cells are interval; allowed: triangle"):
        spon.from_dolfinx(mesh.create_unit_interval(WORLD, 3))
