"""The default processor: every data set has to be one that its cycles can be made for."""

from dataclasses import replace

import numpy as np
import pytest
from equations import beam

import spon
from spon.training.defaults import has_cycles

NONLINEAR = "nonlinear equations, or such as have no multigrid cycles"


@pytest.fixture(scope="module")
def bent():
    """Data of nonlinear equations; what the outputs are plays no part."""
    problem = beam()
    outputs = np.zeros((2, problem.discretisation.dofs))
    data = spon.Dataset(problem.discretisation, np.ones((2, 3)), outputs, np.arange(2))
    return replace(data, physics=problem.physics())


def test_one_data_set_of_another_kind_is_enough(dataset, bent):
    bare = replace(dataset, physics=None)
    levels = dataset.discretisation.levels
    single = replace(dataset, discretisation=replace(dataset.discretisation, levels=levels[:1]))
    foreign = replace(dataset, physics=replace(dataset.physics, kernel="unknown"))
    assert spon.default_processor([dataset, dataset])[0] == "LearnedCorrection"
    for other, reason in (
        (bare, "no equations in the data"),
        (single, "equations on a single level"),
        (bent, NONLINEAR),
        (foreign, NONLINEAR),
    ):
        for data in ([dataset, other], [other, dataset], [other]):
            assert spon.default_processor(data) == ("Multigrid", reason)
    assert [has_cycles(d) for d in (dataset, bare, bent, foreign)] == [True, False, False, False]
