import subprocess
import sys
from itertools import pairwise

import meshio
import numpy as np
import pytest
from conftest import on_square, square
from mpi4py import MPI

import spon
from meshes import box, mapped
from spon.data.field_files import mesh_of, read_fields
from spon.data.grids import Grid
from spon.data.imports import parts
from spon.data.placement import Placement
from spon.fem import reference
from spon.fem.arrays import MeshArrays
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


# ------------------------------------------------------------------- nodes and cells


@pytest.mark.mpi
def test_a_generated_data_set_comes_back_with_the_same_fingerprint(problem, dataset):
    again = spon.import_arrays(
        problem.hierarchy,
        {"kappa": dataset.inputs},
        ("u", dataset.outputs),
        dirichlet=["left", "right"],
        units=dataset.units,
        split=(20, 4),
    )
    np.testing.assert_array_equal(again.inputs, dataset.inputs)
    np.testing.assert_array_equal(again.outputs, dataset.outputs)
    assert again.discretisation.fingerprint == dataset.discretisation.fingerprint
    assert again.sizes == (20, 4)
    assert again.seed is None


def warp(x):
    return (x[0] + 0.1 * x[1] ** 2, *x[1:])


@pytest.mark.parametrize("cell_type", reference.CELL_TYPES)
@pytest.mark.parametrize("degree", [1, 2])
def test_values_at_points_and_cells_of_any_mesh_become_the_function(cell_type, degree, rng):
    arrays = mapped(box(cell_type, 3, degree), warp)
    order = rng.permutation(len(arrays.points))  # no order is special
    moved = np.empty_like(arrays.points)
    moved[order] = arrays.points
    arrays = type(arrays)(
        moved, order[arrays.cells], cell_type, *(getattr(arrays, k) for k in ("cell_tags",)),
        order[arrays.facets], arrays.facet_tags, arrays.cell_names, arrays.facet_names, "mixed",
    )  # fmt: skip
    mesh = TaggedMesh(arrays, ALONE)
    place = Placement(mesh)

    def scalar(x):
        return np.sin(x[0] + 2 * x[1] + 3 * x[2])

    def vector(x):
        return np.stack([scalar(x), x[0] * x[1]])

    x = np.pad(arrays.points, ((0, 0), (0, 3 - arrays.gdim))).T
    c = np.pad(arrays.centroids, ((0, 0), (0, 3 - arrays.gdim))).T
    for values, function in (
        (scalar(x)[None], scalar),
        (vector(x).T[None], vector),
        (scalar(x)[None, mesh.topology.vertex_points], scalar),
    ):
        placed = place("input 'a'", "a", values)
        expected = canonical(mesh, placed.space, function)
        np.testing.assert_allclose(placed.values, expected[None], atol=1e-14)
    found = place("input 'c'", "c", scalar(c)[None], "cells")
    np.testing.assert_array_equal(found.values, scalar(c)[None])
    assert CanonicalSpace(mesh, found.space.ufl_element()).name.startswith("DP0")


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


@pytest.mark.mpi
def test_inputs_of_all_kinds_stand_side_by_side_on_a_mesh_that_ranks_share(rng):
    mesh = TaggedMesh(square(4), MPI.COMM_WORLD)
    n, nodes, cells = 5, 25, 32
    arrays = {
        "a": rng.standard_normal((n, nodes)),
        "v": rng.standard_normal((n, nodes, 2)),
        "c": rng.integers(0, 9, (n, cells)),
        "t": rng.standard_normal(n).astype(np.float32),
        "p": rng.standard_normal((n, 3)),
    }
    d = spon.import_arrays(mesh, arrays, ("u", arrays["a"]), at={"p": "parameters"}, levels=1)
    for name, values in arrays.items():
        np.testing.assert_array_equal(d.input(name), values.reshape(n, -1))
    widths = [space.components for space in d.discretisation.inputs.values()]
    assert widths == [1, 2, 1, 1, 3]
    assert len(d.discretisation.levels) == 2
    assert d.discretisation.inputs["a"] is d.discretisation.output


# ------------------------------------------------------------------------- boundaries


def test_boundary_values_are_those_of_the_samples_or_an_input(tagged, rng):
    x, y = tagged.arrays.points.T
    g = rng.uniform(1, 2, (6, 1))
    u = x * (1 - x) + g * y
    u[:, x == 1] += 1e-9 * rng.standard_normal((6, 5))
    message = r"on boundary 'top' differs .* from its mean in sample \d at \(.*, 1\); allowed: .*top\)"
    with pytest.raises(spon.SponError, match=message):
        spon.import_arrays(tagged, {"g": g[:, 0]}, ("u", u), dirichlet=["bottom", "top"])
    d = spon.import_arrays(
        tagged, {"f": u}, ("u", u), dirichlet=["bottom"], boundary_data={"g": "top", "h": "right"}
    )
    space = d.discretisation
    np.testing.assert_allclose(d.outputs, u, atol=1e-8)
    np.testing.assert_array_equal(d.input("g"), d.outputs[:, space.boundary_dofs["top"]])
    fixed = space.constraint.fixed
    assert fixed.sum() == 5 + 5 + 5 - 2
    np.testing.assert_array_equal(d.shifts[:, fixed], d.outputs[:, fixed])
    free = space.constraint.free(d.outputs - d.shifts + space.constraint.shift)
    np.testing.assert_allclose((space.constraint.Z @ free.T).T + d.shifts, d.outputs, atol=1e-13)


def test_round_off_on_a_dirichlet_boundary_is_removed(tagged, rng):
    x, y = tagged.arrays.points.T
    u = (np.sin(3 * y) + rng.uniform(1, 2, (6, 1)) * x).astype(np.float32)
    d = spon.import_arrays(tagged, {"f": u}, ("u", u), dirichlet=["left"])
    assert d.discretisation.constraint.violation(d.outputs).max() == 0.0
    left = d.discretisation.boundary_dofs["left"]
    np.testing.assert_allclose(d.outputs[0, left], np.sin(3 * y[left]), atol=1e-6)


# --------------------------------------------------------------------------- refusals

N, C = 25, 32
OK = np.ones((3, N))


def nan():
    bad = OK.copy()
    bad[1, 4:6] = np.nan
    return bad


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ({"a": np.ones((3, 26))}, {}, r"input 'a' of shape \(3, 26\) has 26 values .* 25 nodes, 32 cells"),
        ({"a": np.ones((N, 3))}, {}, r"input 'a' of shape \(25, 3\) .*; samples come first"),
        ({"a": np.ones((3, N, 2, 2))}, {}, r"of shape \(3, 25, 2, 2\); allowed: \(samples, n\) or"),
        ({"a": np.ones((4, N))}, {}, "input 'a' has 4 samples, output 'u' has 3; allowed: as many"),
        ({"a": nan()}, {}, "input 'a': 2 values are not finite, the first in sample 1"),
        ({"a": 1j * OK}, {}, "input 'a' has values of type complex128; allowed: real numbers"),
        ({"a": OK.astype(object)}, {}, "input 'a' has values of type object"),
        ({"a": np.ones((0, N))}, {}, r"input 'a' of shape \(0, 25\); allowed: one sample or more"),
        ({}, {}, "no input; allowed: one or more"),
        ({"u": OK}, {}, "'u' is the name of two inputs or outputs"),
        ({"a": OK}, {"units": {"b": "m"}}, "units of 'b'; there are: a, u"),
        (
            {"a": OK},
            {"at": {"a": "edges"}},
            "input 'a' at edges; allowed: nodes, cells, parameters, lagrange2",
        ),
        ({"a": OK}, {"at": {"a": "cells"}}, r"input 'a' of shape \(3, 25\) has 25 values"),
        ({"a": OK}, {"at": {"u": "parameters"}}, "output 'u' is plain numbers; allowed: values at 25 nodes"),
        ({"a": OK}, {"dirichlet": ["inlet"]}, "boundary 'inlet' not found in square; it has: 'left'"),
        ({"a": OK}, {"split": (2, 2)}, "split 2, 2 of 3 samples is 2, 2; allowed: one sample or more"),
        ({"a": OK}, {"levels": -1}, "levels = -1; allowed: 0, 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(inputs, options, message):
    with pytest.raises(spon.SponError, match=message) as caught:
        spon.import_arrays(TaggedMesh(square(4), ALONE), inputs, ("u", OK), **options)
    assert "\n" not in str(caught.value)


def test_as_many_cells_as_nodes_must_be_told_apart():
    n = 6  # a ring of triangles has as many nodes as cells
    keep = 2 * n
    t = 2 * np.pi * np.arange(n) / n
    circle = np.stack([np.cos(t), np.sin(t)], axis=1)
    a, b = np.arange(n), np.roll(np.arange(n), -1)
    arrays = MeshArrays(
        np.concatenate([circle, 2 * circle]),
        np.concatenate([np.stack([a, a + n, b], 1), np.stack([b, a + n, b + n], 1)]),
        "triangle",
        np.ones(keep, np.int32),
        np.empty((0, 2), np.int64),
        np.empty(0, np.int32),
        {"domain": 1},
        {},
        "ring",
    )
    place = Placement(TaggedMesh(arrays, ALONE))
    values = np.arange(2.0 * keep).reshape(2, keep)
    with pytest.raises(spon.SponError, match="fit the nodes and the cells of ring; say which: at a=nodes or"):
        place("input 'a'", "a", values)
    for where, name in (("nodes", "P1"), ("cells", "DP0")):
        found = place("input 'a'", "a", values, where)
        assert CanonicalSpace(place.mesh, found.space.ufl_element()).name.startswith(name)


def test_a_second_hierarchy_of_levels_is_refused():
    with pytest.raises(spon.SponError, match=r"levels = 2 with a hierarchy; allowed: Hierarchy\.coarsened"):
        spon.import_arrays(on_square(2, 1), {"a": OK}, ("u", OK), levels=2)


@pytest.mark.parametrize(
    ("split", "sizes"),
    [((), ()), ((7, 3), (7, 3)), ((0.8, 0.1, 0.1), (8, 1, 1)), ((0.5,), (5,)), ((0.25, 0.75), (2, 8))],
)
def test_splits_by_number_and_fraction(split, sizes):
    assert parts(split, 10) == sizes


@pytest.mark.parametrize("split", [(0.5, 0.6), (5, 0.5), (1.5,), (0,), (-1,), (0.01, 0.5), (11,)])
def test_impossible_splits_are_refused(split):
    with pytest.raises(spon.SponError, match=r"split .*; allowed: "):
        parts(split, 10)


# ------------------------------------------------------------------------------ files


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


# ------------------------------------------------------------------------------ grids


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


# ---------------------------------------------------------------------------- readers


def test_several_processes_read_one_file_at_a_time(dataset, tmp_path):
    path = tmp_path / "d.h5"
    dataset.save(path)
    code = f"import spon\nd = spon.Dataset.load({str(path)!r})\nprint(repr(float(d.outputs.sum())))"
    with spon.storage.open_hdf5(path):
        readers = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        found = [reader.communicate()[0] for reader in readers]
    assert [float(text) for text in found] == [float(dataset.outputs.sum())] * 3
