from dataclasses import replace

import numpy as np
import pytest

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
