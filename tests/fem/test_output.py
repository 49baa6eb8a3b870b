import adios2
import meshio
import numpy as np
import pytest
from conftest import square
from dolfinx import fem
from mpi4py import MPI

import spon
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD


@pytest.fixture
def order():
    mesh = TaggedMesh(square(6), WORLD)
    return CanonicalOrder(mesh, spon.lagrange(mesh))


@pytest.fixture
def fields(order, rng):
    x, y = order.mesh.arrays.points.T
    return {"u": np.sin(x) + y**2, "noise": rng.standard_normal(len(x))}


@pytest.mark.mpi
def test_xdmf_opens_with_meshio_and_matches(shared_folder, order, fields):
    spon.write(shared_folder / "u.xdmf", order, fields)
    WORLD.Barrier()
    mesh = meshio.read(shared_folder / "u.xdmf")
    np.testing.assert_allclose(mesh.points[:, :2], order.mesh.arrays.points, atol=0)
    np.testing.assert_array_equal(mesh.cells_dict["triangle"], order.mesh.arrays.cells)
    for name, values in fields.items():
        np.testing.assert_array_equal(mesh.point_data[name].ravel(), values)


@pytest.mark.mpi
def test_vtx_opens_with_adios2_and_matches(shared_folder, order, fields):
    for _ in range(2):  # also where there is one already
        spon.write(shared_folder / "u.bp", order, fields)
    with adios2.FileReader(str(shared_folder / "u.bp")) as file:
        points = np.concatenate([file.read("geometry", block_id=b) for b in range(WORLD.size)])
        found = {n: np.concatenate([file.read(n, block_id=b) for b in range(WORLD.size)]) for n in fields}
    distance = np.abs(points[:, None, :2] - order.mesh.arrays.points[None]).max(axis=2)
    where = distance.argmin(axis=1)
    assert distance.min(axis=1).max() < 1e-14
    assert set(where) == set(range(len(order.mesh.arrays.points)))
    for name, values in fields.items():
        np.testing.assert_array_equal(found[name].ravel(), values[where])


@pytest.mark.mpi
def test_bad_paths_are_refused_on_all_ranks(shared_folder, order, fields):
    with pytest.raises(spon.SponError, match=r"unknown output format; allowed: \.bp, \.xdmf"):
        spon.write(shared_folder / "u.vtk", order, fields)
    for suffix in ("bp", "xdmf"):
        with pytest.raises(spon.SponError, match=r"cannot write .*: No such file or directory"):
            spon.write(shared_folder / "absent" / f"u.{suffix}", order, fields)


@pytest.mark.mpi
def test_predict_maps_live_functions(problem, rng):
    class Double:
        def predict(self, inputs):
            return 2 * inputs

    mesh = TaggedMesh(square(6), WORLD)
    order = CanonicalOrder(mesh, spon.lagrange(mesh))
    m = fem.Function(order.space)
    m.interpolate(lambda x: x[0] - x[1])
    u = spon.predict(Double(), order, m)
    np.testing.assert_allclose(u.x.array, 2 * m.x.array, atol=1e-15)
