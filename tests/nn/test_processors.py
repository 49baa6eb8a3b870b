"""What holds for every processor."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from conftest import Diffusion, on_square
from mpi4py import MPI
from test_elements import CASES, linear_data
from test_multigrid import renumbered

import spon
from meshes import box
from spon.data.dataset import Dataset
from spon.evaluation import boundary_error, relative_errors
from spon.fem.mesh import TaggedMesh
from spon.nn.processors import find_processor

SELF = MPI.COMM_SELF
SMALL = {
    "Graph": {"width": 8, "steps": 2},
    "Linear": {},
    "LowRank": {"rank": 6, "input_rank": 5, "width": 16},
    "SliceAttention": {"width": 8, "heads": 2, "slices": 3, "blocks": 2},
}
TRAINED = [name for name in SMALL if name != "Linear"]
ON_NODES = ["Graph", "SliceAttention"]


def build(d, name, transform="identity", **settings):
    more = {} if name == "Linear" else {"dtype": "float64"}
    return spon.OperatorNetwork(d, find_processor(name)(d, **{**SMALL[name], **more, **settings}), transform)


def randomise(model, size=0.5):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(size * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


def fitted(d, data, name, transform="identity", **settings):
    model = build(d, name, transform, **settings)
    model.fit_normalisation(data.inputs, data.outputs, data.shifts)
    return randomise(model)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """Spaces of every kind with several inputs, vectors, two and three dimensions."""
    cell, make = CASES[request.param]
    mesh = TaggedMesh(box(cell, 4 if cell != "tetrahedron" else 2), SELF)
    d = make(mesh, spon.Hierarchy.uniform(mesh, 0))
    return d, linear_data(d)


@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_admissible_untrained_and_trained(case, name):
    d, data = case
    model = fitted(d, data, name)
    for epochs in (0, 2):
        if epochs:
            spon.train(model, data, spon.Training(epochs=epochs))
        u = model.predict(data.inputs)
        assert u.std(axis=0).max() > 1e-3
        assert d.constraint.violation(u).max() <= 1e-12 * np.abs(u).max()
        assert boundary_error(data, u).max() <= 1e-12


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_those_of_finite_differences(case, name):
    d, data = case
    model = fitted(d, data, name)
    x = torch.tensor(data.inputs[:2], requires_grad=True)
    variables = [x, *model.parameters()]
    weights = torch.as_tensor(np.random.default_rng(1).standard_normal((2, d.dofs)))
    (weights * model(x)).sum().backward()
    generator = torch.Generator().manual_seed(4)
    directions = [torch.randn(v.shape, dtype=v.dtype, generator=generator) for v in variables]
    step, found = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):  # up, then down
            for v, direction in zip(variables, directions, strict=True):
                v += sign * step * direction
            found.append((weights * model(x)).sum().item())
    slope = sum((v.grad * w).sum().item() for v, w in zip(variables, directions, strict=True))
    assert (found[0] - found[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saved_and_loaded_predict_the_same(problem, dataset, tmp_path, name, dtype):
    d = problem.discretisation
    settings = {} if name == "Linear" else {"dtype": dtype, "seed": 3}
    model = build(d, name, "log", **settings)
    spon.train(model, dataset, spon.Training(epochs=1))
    spon.save_model(tmp_path / "model.pt", model)
    loaded = spon.load_model(tmp_path / "model.pt", d)
    assert loaded.processor.settings == model.processor.settings
    u = model.predict(dataset.inputs)
    np.testing.assert_array_equal(loaded.predict(dataset.inputs), u)
    assert np.ptp(u, axis=0).max() > 1e-3
    assert boundary_error(dataset, u).max() <= 1e-12


LARGER = {
    "Graph": {"width": 24},
    "Linear": {},
    "LowRank": {"width": 24},
    "SliceAttention": {"width": 64, "slices": 16, "heads": 4},
}


@pytest.fixture(scope="module")
def four():
    return spon.generate(Diffusion(on_square(2, 1)), 4, seed=1)


@pytest.mark.parametrize("name", SMALL)
def test_four_samples_are_learned_by_heart(four, name):
    model = build(four.discretisation, name, "log", **LARGER[name])
    settings = spon.Training(350, batch_size=4, microbatch=4, learning_rate=5e-3, weight_decay=0.0, loss="l2")
    spon.train(model, four, settings)
    assert relative_errors(four, model.predict(four.inputs), "l2").max() < 1e-3


@pytest.mark.parametrize("name", TRAINED)
def test_initial_parameters_follow_the_seed_alone(problem, name):
    d = problem.discretisation
    torch.manual_seed(1)
    first = build(d, name, seed=5).state_dict()
    torch.manual_seed(2)
    second, third = build(d, name, seed=5).state_dict(), build(d, name, seed=6).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], third[k]) for k in first)
    settings = build(d, name, seed=5).processor.settings
    again = find_processor(name)(d, **settings).state_dict()
    assert all(torch.equal(first["processor." + k], again[k]) for k in again)


@pytest.mark.parametrize("name", TRAINED)
def test_bad_settings_are_refused(problem, name):
    d = problem.discretisation
    with pytest.raises(spon.SponError, match="dtype float16; allowed: float32, float64"):
        build(d, name, dtype="float16")
    for key in SMALL[name]:
        with pytest.raises(spon.SponError, match=f"{key} = 0; allowed: >= 1"):
            build(d, name, **{key: 0})


def test_bad_settings_of_one_processor_are_refused(problem):
    d = problem.discretisation
    with pytest.raises(spon.SponError, match="ridge = -1; allowed: >= 0, or None"):
        spon.Linear(d, ridge=-1)
    with pytest.raises(spon.SponError, match="width = 9; allowed: a multiple of heads = 2"):
        spon.SliceAttention(d, width=9, heads=2)


@pytest.mark.parametrize("name", ["Linear", "LowRank"])
def test_samples_that_say_nothing_are_refused(problem, dataset, name):
    model = build(problem.discretisation, name, "log")
    with pytest.raises(spon.SponError, match="1 training samples; allowed: at least 2"):
        spon.train(model, dataset[:1], spon.Training(epochs=1))
    with pytest.raises(spon.SponError, match="the inputs of all training samples are the same"):
        spon.train(model, dataset[np.array([0, 0])], spon.Training(epochs=1))


def renumbered_network(d, seed=0):
    """The same discretisation with nodes and cells in another order, its spaces too (all of P1)."""
    levels, order = renumbered(d, seed)
    spaces = {}
    for name, space in (*d.inputs.items(), ("", d.output)):
        changed = {
            key: sp.csr_array(matrix[order][:, order])
            for key in space.MATRICES
            if (matrix := getattr(space, key)) is not None
        }
        spaces[name] = replace(space, **changed)
    rows = np.argsort(order)[d.constraint.Z.tocoo().row]
    columns = np.argsort(np.argsort(rows))  # unknowns in the new order of their nodes
    Z = sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=d.constraint.Z.shape)
    other = replace(
        levels,
        inputs={name: spaces[name] for name in d.inputs},
        output=spaces[""],
        constraint=replace(d.constraint, Z=Z, shift=d.constraint.shift[order]),
        decoder=sp.csr_array(d.decoder[order][:, order]),
        cutoff=d.cutoff[order],
    )
    return other, order


@pytest.mark.parametrize("name", SMALL)
def test_the_numbering_plays_no_part(problem, dataset, name):
    d = problem.discretisation
    other, order = renumbered_network(d)
    there = Dataset(other, dataset.inputs[:, order], dataset.outputs[:, order], dataset.numbers)
    one, two = fitted(d, dataset, name, "log"), fitted(other, there, name, "log")
    assert np.abs(one.predict(dataset.inputs) - dataset.outputs.mean(axis=0)).max() > 1e-3
    np.testing.assert_allclose(
        two.predict(there.inputs), one.predict(dataset.inputs)[:, order], rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("name", ON_NODES)
def test_parameters_go_to_another_mesh(problem, dataset, name):
    fine = Diffusion(on_square(3, 1)).discretisation
    model = fitted(problem.discretisation, dataset, name)
    moved = model.processor.on(fine)
    assert all(
        torch.equal(a, b) for a, b in zip(moved.parameters(), model.processor.parameters(), strict=True)
    )
    network = spon.OperatorNetwork(fine, moved)
    assert network.predict(np.ones((1, fine.dofs))).shape == (1, fine.dofs)
    cell, make = CASES["elasticity"]
    mesh = TaggedMesh(box(cell, 2), SELF)
    with pytest.raises(spon.SponError, match="allowed: spaces of the same kind and dimension"):
        model.processor.on(make(mesh, spon.Hierarchy.uniform(mesh, 0)))


@pytest.mark.parametrize("name", ["Linear", "LowRank"])
def test_what_belongs_to_one_mesh_stays_there(problem, name):
    model = build(problem.discretisation, name)
    with pytest.raises(spon.SponError, match=f"a {name} belongs to the mesh that it was made on"):
        model.processor.on(problem.discretisation)
