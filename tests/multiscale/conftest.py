"""A small cell, and its equilibrium at a few strains."""

import pytest
from rves import chequered, strains


@pytest.fixture(scope="module")
def cell():
    return chequered()


@pytest.fixture(scope="module")
def solved(cell):
    E = strains(3, 3)
    return E, cell.solve(E)
