import subprocess
import sys

import numpy as np
import pytest
from conftest import on_square, square
from mpi4py import MPI

import spon
from meshes import box, mapped
from spon.data.imports import parts
from spon.data.placement import Placement
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.mesh import TaggedMesh
from spon.fem.spaces import CanonicalSpace
from spon.fem.transfer import interpolate

ALONE = MPI.COMM_SELF


def canonical(mesh, space, function):
    """DoFs of a function of points (3, n) in canonical order."""
    return interpolate(CanonicalSpace(mesh, space.ufl_element()), function)


@pytest.fixture
def tagged():
    return TaggedMesh(square(4), ALONE)


# ---------------------------------------------------------------------- nodes and cells


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


# ---------------------------------------------------------------------- boundaries


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


# ---------------------------------------------------------------------- refusals

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


# ---------------------------------------------------------------------- readers


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
