from dataclasses import replace

import numpy as np
import pytest
import ufl
from conftest import on_square
from dolfinx import fem

import spon
from spon.baselines import MeanOutput, PodRegression
from spon.evaluation import boundary_error, relative_errors, summary


class Scaled:
    def __init__(self, dataset, factor):
        self.outputs = factor * dataset.outputs

    def predict(self, inputs, shift=None):
        return self.outputs


def test_errors_are_relative_and_summarised(dataset):
    result = spon.evaluate(Scaled(dataset, 1.25), dataset, {"exact": Scaled(dataset, 1.0)})
    for norm in ("relative_l2", "relative_h1"):
        for value in result[norm].values():
            assert value == pytest.approx(0.25)
        assert result["baselines"]["exact"][norm]["max"] == 0.0
    assert result["boundary_error"]["max"] == pytest.approx(0.25)  # u = 1 on the right
    assert summary(np.array([1.0, 2.0, 6.0])) == {"mean": 3.0, "median": 2.0, "max": 6.0}
    assert boundary_error(dataset, dataset.outputs).max() == 0.0


def linear(dataset, seed=0):
    """The same inputs, outputs that depend linearly on the logarithm of the input, of rank 3."""
    rng = np.random.default_rng(seed)
    n = dataset.discretisation.dofs
    left, right = rng.standard_normal((n, 3)), rng.standard_normal((3, n))
    return replace(dataset, outputs=2.0 + np.log(dataset.inputs) @ left @ right / n)


def test_regression_reproduces_what_lies_in_its_span(dataset):
    data = linear(dataset)
    fitted = PodRegression(data, logarithm=True)
    blend = np.exp(0.4 * np.log(data.inputs[3]) + 0.6 * np.log(data.inputs[5]))[None]
    expected = 0.4 * data.outputs[3] + 0.6 * data.outputs[5]
    fitted.rank, fitted.ridge = 23, 1e-14
    np.testing.assert_allclose(fitted.predict(blend)[0], expected, atol=1e-7)


def test_regression_beats_the_mean_on_unseen_samples(problem, dataset):
    test = spon.generate(problem, 10, seed=99)
    mean = relative_errors(test, MeanOutput(dataset).predict(test.inputs), "l2").mean()
    regression = relative_errors(test, PodRegression(dataset, True).predict(test.inputs), "l2").mean()
    assert regression < 0.8 * mean
    np.testing.assert_allclose(MeanOutput(dataset).predict(test.inputs)[4], dataset.outputs.mean(axis=0))
    with pytest.raises(spon.SponError, match="5 training samples; allowed: at least 10"):
        PodRegression(dataset[:5], True)


def evaluated(d, outputs, predicted):
    """Metrics of given predictions on a discretisation with an input of its own."""
    n = sum(space.dofs for space in d.inputs.values())
    data = spon.Dataset(d, np.zeros((len(outputs), n)), outputs, np.arange(len(outputs)))
    exact = Scaled(data, 1.0)
    exact.outputs = predicted
    return spon.evaluate(exact, data)


def test_periodic_jumps_and_means_are_reported(rng):
    hierarchy = on_square(3, 1)
    mesh = hierarchy.finest
    V = spon.lagrange(mesh, 1)
    constraint = spon.periodic(mesh, V, {"left": "right"})
    mean = spon.zero_mean(spon.CanonicalOrder(mesh, V))
    d = spon.discretise(hierarchy, V, constraint, zero_mean=mean)
    u = mean(constraint.expand(rng.standard_normal((3, constraint.Z.shape[1]))))
    found = evaluated(d, u, u)
    assert found["constraint_violation"]["max"] < 1e-14
    assert found["mean_value"]["max"] < 1e-14
    jump = u + 0.3 * (d.levels[0].points[:, 0] == 1.0)
    assert evaluated(d, u, jump)["constraint_violation"]["max"] == pytest.approx(0.15)  # from their mean
    assert evaluated(d, u, u + 0.2)["mean_value"]["max"] == pytest.approx(0.2)
    plain = spon.discretise(hierarchy, V, spon.dirichlet(mesh, V, {"left": 0.0}))
    assert not {"constraint_violation", "mean_value", "divergence"} & set(evaluated(plain, u + 1, u + 1))


def test_divergence_is_reported_where_the_data_have_none(rng):
    hierarchy = on_square(3, 1)
    mesh = hierarchy.finest
    V = fem.functionspace(mesh.dolfinx, ("RT", 1))
    constraint = spon.divergence_free(mesh, V, ["left", "right"])
    d = spon.discretise(hierarchy, V, constraint)
    u = constraint.expand(rng.standard_normal((3, constraint.Z.shape[1])))
    assert evaluated(d, u, u)["divergence"]["max"] < 1e-14
    noise = rng.standard_normal(u.shape)
    assert evaluated(d, u, u + noise)["divergence"]["max"] > 0.1
    assert "divergence" not in evaluated(d, noise, noise)


def test_the_energy_is_a_norm_of_its_own(rng):
    hierarchy = on_square(3, 1)
    V = spon.lagrange(hierarchy.finest, 1)
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    d = spon.discretise(hierarchy, V, energy=(ufl.inner(ufl.grad(u), ufl.grad(v)) + 4 * u * v) * ufl.dx)
    x, y = rng.standard_normal((2, 2, d.dofs))
    K = d.output.stiffness + 4 * d.output.mass
    expected = [np.sqrt((a - b) @ (K @ (a - b)) / (b @ (K @ b))) for a, b in zip(x, y, strict=True)]
    assert evaluated(d, y, x)["relative_energy"]["max"] == pytest.approx(max(expected))


def test_regression_treats_several_inputs_alike(dataset):
    """Numbers in any unit beside a field: an output that depends on them alone is found."""
    d = dataset.discretisation
    two = replace(d, inputs={"kappa": d.input, "q": replace(d.input, element="parameters q")})
    rng = np.random.default_rng(0)
    q, mode = rng.standard_normal((24, 1)), rng.standard_normal(d.dofs)
    errors = []
    for unit in (1e-6, 1.0, 1e6):
        inputs = np.hstack([dataset.inputs, unit * q * np.ones(d.dofs)])
        data = replace(dataset, discretisation=two, inputs=inputs, outputs=3.0 + q * mode)
        found = PodRegression(data[:18], True).predict(inputs[18:])
        errors.append(relative_errors(data[18:], found, "l2").max())
    assert max(errors) < 0.1
    np.testing.assert_allclose(errors, errors[0], rtol=1e-6)
