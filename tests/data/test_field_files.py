import meshio
import numpy as np
import pytest
from conftest import square
from mpi4py import MPI

import spon
from meshes import box, mapped
from spon.data.field_files import mesh_of, read_fields
from spon.data.placement import Placement
from spon.fem import reference
from spon.fem.mesh import TaggedMesh
from spon.fem.meshio_mesh import to_meshio
from spon.fem.spaces import CanonicalSpace, lagrange_element
from spon.fem.transfer import interpolate

ALONE = MPI.COMM_SELF


def canonical(mesh, space, function):
    """DoFs of a function of points (3, n) in canonical order."""
    return interpolate(CanonicalSpace(mesh, space.ufl_element()), function)


def write_fields(path, arrays, point_data, cell_data=None):
    mesh = to_meshio(arrays, ".vtu")
    cells = {name: [values] for name, values in (cell_data or {}).items()}
    meshio.write(path, meshio.Mesh(mesh.points, mesh.cells[:1], point_data, cells))


@pytest.fixture
def tagged():
    return TaggedMesh(square(4), ALONE)


@pytest.mark.parametrize("cell_type", ["quadrilateral", "hexahedron"])
def test_serendipity_data_are_completed_exactly(cell_type, tmp_path):
    whole = box(cell_type, 2, 2)
    count = {"quadrilateral": 8, "hexahedron": 20}[cell_type]
    cells = to_meshio(whole, ".vtu").cells[0].data[:, :count]
    used, numbers = np.unique(cells, return_inverse=True)
    points = np.pad(whole.points[used], ((0, 0), (0, 3 - whole.gdim)))

    def function(x):  # in the serendipity space of boxes
        return 1 + x[0] ** 2 * x[1] - x[0] * x[1] ** 2 + x[2] ** 2

    kind = {"quadrilateral": "quad8", "hexahedron": "hexahedron20"}[cell_type]
    step = meshio.Mesh(points, [(kind, numbers.reshape(cells.shape))], {"u": function(points.T)})
    meshio.write(tmp_path / "a.vtu", step)
    mesh = TaggedMesh(mesh_of([tmp_path / "a.vtu"]), ALONE)
    fields = read_fields([tmp_path / "a.vtu"], ["u"], mesh)
    placed = Placement(mesh)("output 'u'", "u", fields.arrays["u"])
    np.testing.assert_allclose(placed.values[0], canonical(mesh, placed.space, function), atol=1e-14)


def shuffled(arrays, rng):
    """The same mesh with nodes and cells in another order, and where each node and cell went."""
    nodes, cells = rng.permutation(len(arrays.points)), rng.permutation(len(arrays.cells))
    points = np.empty_like(arrays.points)
    points[nodes] = arrays.points
    out = type(arrays)(
        points, nodes[arrays.cells][cells], arrays.cell_type, arrays.cell_tags, nodes[arrays.facets],
        arrays.facet_tags, arrays.cell_names, arrays.facet_names, "shuffled",
    )  # fmt: skip
    return out, nodes, cells


@pytest.mark.parametrize("cell_type", ["triangle", "hexahedron"])
@pytest.mark.parametrize("degree", [1, 2])
def test_another_order_is_matched_by_coordinates(cell_type, degree, tmp_path, rng):
    arrays = box(cell_type, 3, degree)
    other, nodes, cells = shuffled(arrays, rng)
    u, c = rng.standard_normal((2, len(nodes))), rng.standard_normal((2, len(cells)))
    v = rng.standard_normal((2, len(nodes), 3))
    v[..., arrays.gdim :] = 0
    paths = [tmp_path / f"{k}.vtu" for k in range(2)]
    for path, own, vector, values in zip(paths, u, v, c, strict=True):
        moved, moved_vector = np.empty_like(own), np.empty_like(vector)
        moved[nodes], moved_vector[nodes] = own, vector
        write_fields(path, other, {"u": moved, "v": moved_vector}, {"c": values[cells]})
    mesh = TaggedMesh(arrays, ALONE)
    fields = read_fields(paths, ["u", "v", "c"], mesh)
    np.testing.assert_array_equal(fields.arrays["u"], u)
    np.testing.assert_array_equal(fields.arrays["v"], v[..., : arrays.gdim])
    np.testing.assert_array_equal(fields.arrays["c"], c)
    assert fields.at == {"u": "nodes", "v": "nodes", "c": "cells"}
    assert len(fields.notes) == 2
    assert "nodes are in another order than in box; matched by coordinates" in fields.notes[0]
    same = read_fields(paths, ["u"], TaggedMesh(mesh_of(paths), ALONE))
    assert same.notes == []


@pytest.mark.parametrize("cell_type", reference.CELL_TYPES)
def test_second_order_fields_come_onto_a_first_order_mesh_with_its_boundaries(cell_type, tmp_path):
    mesh = TaggedMesh(box(cell_type, 2), ALONE)
    space = CanonicalSpace(mesh, lagrange_element(cell_type, 2, 3))

    def function(x):
        return np.stack([x[0] ** 2, x[0] * x[1], 0 * x[0]])

    path = tmp_path / "v.vtu"
    values = interpolate(space, function)
    spon.write(path, space, {"v": values, "w": 2 * values})
    fields = read_fields([path], ["v", "w"], mesh)
    assert set(fields.at.values()) == {"lagrange2"}
    d = spon.import_arrays(
        mesh, {"w": fields.arrays["w"]}, ("v", fields.arrays["v"]), at=fields.at, dirichlet=["right"]
    )
    kept = values.reshape(-1, 3)[:, : mesh.arrays.gdim]
    np.testing.assert_allclose(d.outputs[0], kept.ravel(), atol=1e-14)
    np.testing.assert_allclose(d.inputs, 2 * d.outputs, atol=1e-14)
    with pytest.raises(spon.SponError, match=r"input 'w' of shape .* at lagrange2; allowed: \d+ values"):
        spon.import_arrays(mesh, {"w": kept[None, :5]}, ("v", fields.arrays["v"]), at=fields.at)


def test_nodes_of_each_cell_for_itself_are_joined_where_values_agree(tagged, tmp_path):
    arrays = tagged.arrays
    own = np.arange(arrays.cells.size).reshape(arrays.cells.shape)
    points = np.pad(arrays.points[arrays.cells.ravel()], ((0, 0), (0, 1)))
    u = points[:, 0] - 2 * points[:, 1]
    jump = u + (np.arange(len(u)) == 5)
    path = tmp_path / "dg.vtu"
    meshio.write(path, meshio.Mesh(points, [("triangle", own)], {"u": u, "jump": jump}))
    fields = read_fields([path], ["u"], tagged)
    np.testing.assert_allclose(fields.arrays["u"][0], arrays.points @ [1, -2], atol=1e-15)
    with pytest.raises(
        spon.SponError, match=r"'jump' has several values at one node of the mesh, .* from their"
    ):
        read_fields([path], ["jump"], tagged)
    with pytest.raises(spon.SponError, match="its cells share no nodes"):
        mesh_of([path])


@pytest.mark.parametrize("suffix", [".pvd", ".xdmf"])
def test_steps_of_a_series_are_samples(problem, dataset, tmp_path, suffix):
    path = tmp_path / f"u{suffix}"
    spon.write(path, problem.order, {"u": dataset.outputs[:3]}, times=[0.0, 0.5, 2.0])
    mesh = mesh_of([path])
    np.testing.assert_allclose(mesh.points, problem.hierarchy.finest.arrays.points, atol=1e-15)
    fields = read_fields([path], ["u"], problem.hierarchy.finest)
    np.testing.assert_allclose(fields.arrays["u"], dataset.outputs[:3], atol=1e-15)


def test_files_that_do_not_fit_are_refused(tagged, tmp_path):
    arrays = tagged.arrays
    u = {"u": arrays.points[:, 0], "w": arrays.points[:, 0]}
    good, moved, fine = (tmp_path / f"{n}.vtu" for n in ("good", "moved", "fine"))
    write_fields(good, arrays, u, {"w": np.ones(32)})
    write_fields(moved, mapped(arrays, lambda x: (x[0] + 0.01 * (x[0] == 1), x[1])), {"u": u["u"]})
    write_fields(fine, square(8), {"u": square(8).points[:, 0]})
    for path, names, at, message in (
        (good, ["p"], {}, "no array 'p'; it has: 'u', 'w', 'w'"),
        (good, ["w"], {}, "'w' is at nodes and in cells; say which: at w=nodes or at w=cells"),
        (good, ["u"], {"u": "cells"}, "'u' is at nodes, not at cells"),
        (
            moved,
            ["u"],
            {},
            r"5 of 25 nodes of .*moved.vtu: no partner in square; .* \(1\.01, .* is 0\.01 from",
        ),
        (fine, ["u"], {}, r"56 of 81 nodes of .*fine.vtu: no partner in square"),
        (tmp_path / "absent.vtu", ["u"], {}, "no such file: .*absent.vtu"),
    ):
        with pytest.raises(spon.SponError, match=message):
            read_fields([path], names, tagged, at)
    assert read_fields([good], ["w"], tagged, {"w": "cells"}).arrays["w"].shape == (1, 32)
    (tmp_path / "empty.pvd").write_text("<VTKFile><Collection/></VTKFile>")
    with pytest.raises(spon.SponError, match="lists no files"):
        read_fields([tmp_path / "empty.pvd"], ["u"], tagged)
    (tmp_path / "broken.vtu").write_text("<VTKFile>")
    with pytest.raises(spon.SponError, match=r"broken.vtu: meshio cannot read it"):
        read_fields([tmp_path / "broken.vtu"], ["u"], tagged)
