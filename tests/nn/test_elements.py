"""Operator networks on spaces of every kind: admissible outputs, gradients, training, other machines."""

import numpy as np
import pytest
import torch
from dolfinx import fem
from mpi4py import MPI
from test_imports import WITHOUT_FEM, run_without

import spon
from meshes import box
from spon.data.dataset import Dataset
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh

SELF = MPI.COMM_SELF


def elasticity(mesh, hierarchy):
    V = spon.lagrange(mesh, 2, 2)
    modulus = fem.functionspace(mesh.dolfinx, ("DG", 0))
    constraint = spon.dirichlet(mesh, V, {"left": (0.0, None), "bottom": (None, lambda x: 0.1 * x[0])})
    return spon.discretise(hierarchy, V, constraint, {"E": modulus})


def flow(mesh, hierarchy):
    V = fem.functionspace(mesh.dolfinx, ("RT", 2))
    constraint = spon.divergence_free(mesh, V, ["bottom", "top"])
    scalar = spon.lagrange(mesh)
    return spon.discretise(hierarchy, V, constraint, {"f": scalar, "nu": spon.Parameters(mesh, ["nu"])})


def periodic_flow(mesh, hierarchy):
    V = fem.functionspace(mesh.dolfinx, ("BDM", 1))
    constraint = spon.divergence_free(mesh, V, periodic={"left": "right", "bottom": "top"})
    return spon.discretise(hierarchy, V, constraint, {"f": spon.Moments(mesh, spon.lagrange(mesh))})


def membrane(mesh, hierarchy):
    V = spon.lagrange(mesh, 2)
    constraint = spon.periodic(mesh, V, {"left": "right", "bottom": "top"})
    mean = spon.zero_mean(CanonicalOrder(mesh, V))
    sensors = spon.Sensors(mesh, [[0.2, 0.3], [0.7, 0.7], [0.5, 0.1], [0.1, 0.9]])
    return spon.discretise(hierarchy, V, constraint, {"f": sensors}, zero_mean=mean)


def plate_in_space(mesh, hierarchy):
    V = fem.functionspace(mesh.dolfinx, ("N1curl", 1))
    return spon.discretise(hierarchy, V, spon.dirichlet(mesh, V, {"left": 0.0}), {"k": spon.lagrange(mesh)})


CASES = {
    "elasticity": ("triangle", elasticity),
    "flow": ("triangle", flow),
    "periodic flow": ("triangle", periodic_flow),
    "membrane": ("quadrilateral", membrane),
    "curl": ("tetrahedron", plate_in_space),
}


@pytest.fixture(params=CASES)
def discretisation(request):
    cell, make = CASES[request.param]
    coarse = TaggedMesh(box(cell, 4 if cell != "tetrahedron" else 2), SELF)
    hierarchy = spon.Hierarchy.uniform(coarse, 1).coarsened(1)
    return make(hierarchy.finest, hierarchy)


def build(d, transform="identity", **settings):
    processor = spon.Multigrid(d, widths=(6, 8), cycles=1, dtype="float64", **settings)
    return spon.OperatorNetwork(d, processor, transform)


def linear_data(d, samples=12, seed=0):
    """Admissible outputs proportional to the size of the input."""
    rng = np.random.default_rng(seed)
    widths = sum(space.dofs for space in d.inputs.values())
    inputs = rng.uniform(0.5, 2.0, (samples, 1)) + 0.01 * rng.random((samples, widths))
    points = d.levels[0].points
    smooth = np.stack(
        [np.cos(k + points @ np.arange(1.0, points.shape[1] + 1)) for k in range(d.cutoff.shape[1])], 1
    )
    outputs = (d.decoder @ np.outer((d.cutoff * smooth).ravel(), inputs[:, 0])).T + d.constraint.shift
    if d.zero_mean is not None:
        outputs = d.zero_mean(outputs)
    return Dataset(d, inputs, outputs, np.arange(samples))


def randomise(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


def test_outputs_are_admissible_whatever_the_parameters(discretisation):
    d = discretisation
    data = linear_data(d)
    model = randomise(build(d, coefficient=d.input.components == 1))
    model.fit_normalisation(data.inputs, data.outputs)
    u = model.predict(data.inputs)
    assert u.shape == data.outputs.shape
    assert u.std(axis=0).max() > 1e-3
    assert d.constraint.violation(u).max() <= 1e-12 * np.abs(u).max()
    if d.zero_mean is not None:
        assert np.abs(d.zero_mean.mean(u)).max() <= 1e-13 * np.abs(u).max()
    fixed = d.constraint.fixed
    np.testing.assert_array_equal(u[:, fixed], np.tile(d.constraint.shift[fixed], (len(u), 1)))


def test_gradients_are_those_of_finite_differences(discretisation):
    d = discretisation
    data = linear_data(d, 2)
    model = randomise(build(d))
    model.fit_normalisation(data.inputs, data.outputs)
    x = torch.tensor(data.inputs, requires_grad=True)
    weights = torch.as_tensor(np.random.default_rng(1).standard_normal(data.outputs.shape))
    (weights * model(x)).sum().backward()
    direction = torch.as_tensor(np.random.default_rng(2).standard_normal(data.inputs.shape))
    step = 1e-6
    with torch.no_grad():
        up, down = ((weights * model(x + s * step * direction)).sum().item() for s in (1, -1))
    assert (up - down) / (2 * step) == pytest.approx((x.grad * direction).sum().item(), rel=1e-5)


def test_training_learns_and_is_saved(discretisation, tmp_path):
    d = discretisation
    data = linear_data(d)
    model = build(d)
    history = spon.train(model, data, spon.Training(epochs=60, learning_rate=1e-2, loss="l2"))
    assert history.losses[-1] < 0.5 * history.losses[0]
    data.save(tmp_path / "data.h5")
    spon.save_model(tmp_path / "model.pt", model)
    again = spon.Dataset.load(tmp_path / "data.h5")
    loaded = spon.load_model(tmp_path / "model.pt", again.discretisation)
    np.testing.assert_array_equal(loaded.predict(again.inputs), model.predict(data.inputs))


def test_files_are_read_and_networks_run_without_dolfinx(discretisation, tmp_path):
    d = discretisation
    path = tmp_path / "d.h5"
    d.save(path)
    code = (
        "import numpy, spon\n"
        f"d = spon.Discretisation.load({str(path)!r})\n"
        "model = spon.OperatorNetwork(d, spon.Multigrid(d, dtype='float64'))\n"
        "x = numpy.ones((2, sum(s.dofs for s in d.inputs.values())))\n"
        "u = model.predict(x)\n"
        "print(u.shape[1], d.constraint.violation(u).max() <= 1e-12, d.fingerprint)\n"
    )
    done = run_without(WITHOUT_FEM, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(d.dofs), "True", d.fingerprint]


def test_inputs_of_the_wrong_kind_are_refused(discretisation):
    d = discretisation
    model = build(d)
    n = sum(space.dofs for space in d.inputs.values())
    with pytest.raises(spon.SponError, match=rf"inputs of shape \(2, {n + 1}\); allowed: \(batch, {n}\)"):
        model.predict(np.ones((2, n + 1)))
    with pytest.raises(spon.SponError, match="norm 'energy'; allowed: l2, h1"):
        spon.train(model, linear_data(d), spon.Training(epochs=1, loss="energy"))


def test_a_vector_input_is_no_coefficient():
    mesh = TaggedMesh(box("triangle", 2), SELF)
    V = spon.lagrange(mesh, 1, 2)
    d = spon.discretise(spon.Hierarchy.uniform(mesh, 0), V)
    with pytest.raises(spon.SponError, match="the first input has 2 components; allowed: 1 as a coefficient"):
        spon.Multigrid(d, coefficient=True)
    data = linear_data(d)
    model = spon.OperatorNetwork(d, spon.Multigrid(d))
    assert model.predict(data.inputs).shape == data.outputs.shape


@pytest.mark.mpi
def test_live_functions_in_and_out_with_encoders():
    """Several inputs of several kinds, and boundary data of the sample, on a distributed mesh."""
    mesh = TaggedMesh(box("triangle", 4), MPI.COMM_WORLD)
    V, cells = spon.lagrange(mesh, 2), fem.functionspace(mesh.dolfinx, ("DG", 0))
    encoders = {
        "k": spon.Dofs(mesh, cells),
        "g": spon.Trace(mesh, V, "left"),
        "q": spon.Parameters(mesh, ["q"]),
    }
    d = spon.discretise(
        spon.Hierarchy.uniform(mesh, 0), V, spon.dirichlet(mesh, V, {"left": 0.0, "top": 0.0}), encoders
    )
    model = randomise(build(d))
    k, g = fem.Function(cells), fem.Function(V)
    k.interpolate(lambda x: 1 + x[0])
    g.interpolate(lambda x: x[1] - x[1] ** 2)
    shift = d.with_boundary_data(encoders["g"](g)[None], "left")[0]
    u = spon.predict(model, CanonicalOrder(mesh, V), {"q": [2.0], "g": g, "k": k}, encoders, shift)
    values = spon.Dofs(mesh, V)(u)
    np.testing.assert_array_equal(values[d.boundary_dofs["left"]], encoders["g"](g))
    np.testing.assert_array_equal(values[d.boundary_dofs["top"]], shift[d.boundary_dofs["top"]])
    vector = np.concatenate([encoders["k"](k), encoders["g"](g), [2.0]])
    np.testing.assert_array_equal(values, model.predict(vector[None], shift=shift[None])[0])
    assert np.ptp(values) > 1e-3
    with pytest.raises(spon.SponError, match="inputs 'k'; allowed: 'k', 'g', 'q'"):
        spon.predict(model, CanonicalOrder(mesh, V), {"k": k}, encoders)
