"""Greedy order: a permutation, each step to the nearest sample that is left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spon.data.ordering import nearest_neighbour_order
from spon.errors import SponError


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 99))
def test_each_step_goes_to_the_nearest_that_is_left(n, k, seed):
    values = np.random.default_rng(seed).integers(0, 5, (n, k)).astype(float)  # with ties
    order = nearest_neighbour_order(values)
    assert order[0] == 0
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    for i in range(n - 1):
        distance = np.linalg.norm(values[order[i + 1 :]] - values[order[i]], axis=1)
        assert distance[0] == distance.min()
        assert order[i + 1] == order[i + 1 :][distance == distance[0]].min()


def test_points_on_a_line_are_walked_along():
    position = np.random.default_rng(0).permutation(200).astype(float)
    position[[0, position.argmin()]] = position[[position.argmin(), 0]]
    order = nearest_neighbour_order(position[:, None])
    np.testing.assert_array_equal(position[order], np.arange(200.0))


@pytest.mark.parametrize("bad", [np.zeros(3), np.array([[np.nan]])])
def test_other_arrays_are_refused(bad):
    with pytest.raises(SponError, match=r"allowed: \(samples, k\), finite"):
        nearest_neighbour_order(bad)


def test_no_samples_have_an_empty_order():
    assert nearest_neighbour_order(np.empty((0, 2))).shape == (0,)
