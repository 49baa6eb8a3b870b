from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from conftest import Diffusion, on_square, square
from dolfinx import fem
from mpi4py import MPI

import spon
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD


@pytest.fixture(scope="module")
def discretisation():
    return Diffusion(on_square(3, 2)).discretisation


@pytest.mark.mpi
def test_scatter_and_gather_are_inverse_and_follow_the_input_mesh(rng):
    mesh = TaggedMesh(square(5), WORLD)
    order = CanonicalOrder(mesh, spon.lagrange(mesh))
    values = rng.standard_normal(36)
    function = fem.Function(order.space)
    order.scatter(values, function)
    np.testing.assert_array_equal(order.gather(function.x.array), values)
    function.interpolate(lambda x: x[0] + 10 * x[1])
    np.testing.assert_allclose(order.gather(function.x.array), mesh.arrays.points @ [1, 10], atol=1e-14)


@pytest.mark.mpi
def test_arrays_do_not_depend_on_the_number_of_ranks(discretisation):
    spread = Diffusion(on_square(3, 2, WORLD)).discretisation
    assert spread.fingerprint == discretisation.fingerprint
    for a, b in zip(spread.levels, discretisation.levels, strict=True):
        for name in ("mass", "stiffness"):
            x, y = getattr(a, name), getattr(b, name)
            np.testing.assert_array_equal(x.indices, y.indices)
            np.testing.assert_array_equal(x.indptr, y.indptr)
            assert abs(x.data - y.data).max() <= 1e-13 * abs(y.data).max()
    np.testing.assert_allclose(spread.cutoff, discretisation.cutoff, atol=1e-12)
    np.testing.assert_allclose(spread.constraint.shift, discretisation.constraint.shift, atol=1e-12)


def test_gram_matrices_integrate_polynomials(discretisation):
    for level in discretisation.levels:
        x, y = level.points.T
        assert x @ (level.mass @ y) == pytest.approx(0.25, abs=1e-14)  # ∫ x y
        assert x @ (level.mass @ x) == pytest.approx(1 / 3, abs=1e-14)  # ∫ x²
        assert (2 * x - y) @ (level.stiffness @ (x + y)) == pytest.approx(1.0, abs=1e-13)
        assert level.lumped_mass.sum() == pytest.approx(1.0, abs=1e-14)
        assert abs(level.stiffness - level.stiffness.T).max() < 1e-14


def test_gradient_is_exact_and_gives_the_stiffness(discretisation):
    for level in discretisation.levels:
        m = len(level.cells)
        slopes = (level.gradient @ (3 * level.points[:, 0] - 2 * level.points[:, 1])).reshape(2, m)
        np.testing.assert_allclose(slopes, [[3.0] * m, [-2.0] * m], atol=1e-12)
        weights = sp.diags_array(np.tile(level.weights, 2))
        assert abs(level.gradient.T @ weights @ level.gradient - level.stiffness).max() < 1e-13
        np.testing.assert_allclose(level.values @ level.points, level.points[level.cells].mean(axis=1))


def test_every_latent_vector_satisfies_the_boundary_values(discretisation, rng):
    constraint = discretisation.constraint
    latent = rng.standard_normal((constraint.Z.shape[1], 20)) * 1e3
    u = (constraint.Z @ latent).T + constraint.shift
    x = discretisation.levels[0].points[:, 0]
    assert (u[:, x == 0.0] == 0.0).all()
    assert (u[:, x == 1.0] == 1.0).all()
    assert constraint.violation(u).max() <= 1e-12  # of values of size 1e3
    np.testing.assert_allclose(constraint.free(u), latent.T)
    assert constraint.violation(u + 1e-3).min() == pytest.approx(1e-3)


def test_lift_is_harmonic_and_cutoff_vanishes_exactly_where_values_are_fixed(discretisation):
    level, constraint = discretisation.levels[0], discretisation.constraint
    np.testing.assert_allclose(constraint.shift, level.points[:, 0], atol=1e-11)
    assert (discretisation.cutoff[constraint.fixed, 0] == 0.0).all()
    assert (discretisation.cutoff[~constraint.fixed, 0] > 0.0).all()
    assert discretisation.cutoff.max() == 1.0
    x = level.points[:, 0]
    np.testing.assert_allclose(discretisation.cutoff[:, 0], 4 * x * (1 - x), atol=1e-10)  # nodally exact


def test_saved_and_loaded_are_the_same(discretisation, tmp_path):
    discretisation.save(tmp_path / "d.h5")
    loaded = spon.Discretisation.load(tmp_path / "d.h5")
    assert loaded.fingerprint == discretisation.fingerprint
    assert len(loaded.levels) == 3
    for a, b in zip(loaded.levels, discretisation.levels, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
        np.testing.assert_array_equal(a.cells, b.cells)
        assert (a.mass != b.mass).nnz == (a.stiffness != b.stiffness).nnz == 0
    assert (loaded.constraint.Z != discretisation.constraint.Z).nnz == 0
    np.testing.assert_array_equal(loaded.constraint.shift, discretisation.constraint.shift)
    np.testing.assert_array_equal(loaded.cutoff, discretisation.cutoff)
    assert {k: v.tolist() for k, v in loaded.boundaries.items()} == {
        k: v.tolist() for k, v in discretisation.boundaries.items()
    }


def test_damaged_files_are_refused(discretisation, tmp_path):
    path = tmp_path / "d.h5"
    with pytest.raises(spon.SponError, match="no such file: "):
        spon.Discretisation.load(path)
    discretisation.save(path)
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(spon.SponError, match="not a readable HDF5 file"):
        spon.Discretisation.load(tmp_path / "cut.h5")
    with h5py.File(path, "a") as file:
        file["levels/2/points"][0, 0] += 1e-9
    with pytest.raises(spon.SponError, match="was altered: its checksum does not fit"):
        spon.Discretisation.load(path)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = 99
    with pytest.raises(spon.SponError, match="format 99; allowed: 2"):
        spon.Discretisation.load(path)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = 2
        del file["levels/0/mass"]
    with pytest.raises(spon.SponError, match="was altered"):
        spon.Discretisation.load(path)


def test_fingerprint_tells_boundary_data_meshes_and_levels_apart():
    hierarchy = on_square(3, 1)
    marks = {Diffusion(on_square(n, r)).discretisation.fingerprint for n, r in ((3, 1), (4, 1), (3, 2))}
    assert len(marks) == 3
    other = Diffusion(hierarchy)
    other.boundary_values["left"] = 0.5
    assert other.discretisation.fingerprint not in marks


def test_fingerprint_tells_connectivity_elements_and_inputs_apart():
    arrays = square(2)
    flipped = arrays.cells.copy()
    flipped[0], flipped[4] = [0, 1, 3], [1, 4, 3]  # the other diagonal of the first box
    marks = set()
    for mesh in (TaggedMesh(arrays), TaggedMesh(replace(arrays, cells=flipped))):
        V, W = spon.lagrange(mesh), spon.lagrange(mesh, 2)
        single = spon.Hierarchy.uniform(mesh, 0)
        made = [
            spon.discretise(single, V),
            spon.discretise(single, V, degree=2),
            spon.discretise(single, W),
            spon.discretise(single, V, inputs={"m": W}),
            spon.discretise(single, V, inputs={"k": V}),
            spon.discretise(single, V, inputs={"m": spon.Moments(mesh, V)}),
            spon.discretise(single, V, inputs={"m": spon.Trace(mesh, V, "left")}),
            spon.discretise(single, V, inputs={"m": spon.Trace(mesh, V, "top")}),
            spon.discretise(single, V, inputs={"m": spon.Sensors(mesh, [[0.1, 0.2]])}),
            spon.discretise(single, V, inputs={"m": spon.Sensors(mesh, [[0.1, 0.3]])}),
            spon.discretise(single.coarsened(1), V),
            spon.discretise(single, V, spon.dirichlet(mesh, V, {"left": 0.0})),
            spon.discretise(single, V, zero_mean=spon.zero_mean(CanonicalOrder(mesh, V))),
        ]
        marks |= {d.fingerprint for d in made}
    assert len(marks) == 2 * len(made)


@pytest.mark.mpi
def test_bad_boundaries_are_refused_on_all_ranks():
    mesh = TaggedMesh(square(4), WORLD)
    space = spon.lagrange(mesh)
    with pytest.raises(spon.SponError, match=r"'left' and 'top' prescribe 0 and 1 at their common point \(0"):
        spon.dirichlet(mesh, space, {"left": 0.0, "top": 1.0})
    with pytest.raises(spon.SponError, match="boundary 'hole' not found in square"):
        spon.dirichlet(mesh, space, {"hole": 0.0})
    with pytest.raises(spon.SponError, match="on boundary 'left' is not finite"):
        spon.dirichlet(mesh, space, {"left": float("nan")})
    with pytest.raises(spon.SponError, match="lives on another mesh"):
        spon.dirichlet(TaggedMesh(square(4), WORLD), space, {"left": 0.0})
