"""Two scales in space: a body of tetrahedra or hexahedra, whose points solve a cell in space."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from macros import Partial, cantilever, displacement, on_mesh
from mpi4py import MPI
from rves import FIBRE, MATRIX, SOFT, STIFF, laminate, layered

import spon


class Effective(Partial):
    """The analytic stiffness of a laminate."""

    def __init__(self, stiffness):
        self.stiffness, self.strain_size = stiffness, 6

    def respond(self, strain, where=None):
        none = torch.zeros(len(strain), dtype=torch.bool)
        return spon.Response(strain @ self.stiffness, self.stiffness.expand(len(strain), 6, 6), None, none)


class Doubtful(Partial):
    """In doubt by γ_xz."""

    def respond(self, strain, where=None):
        return replace(super().respond(strain, where), indicator=strain[:, 4].abs())


@pytest.mark.mpi
@pytest.mark.parametrize("cell", ["tetrahedron", "hexahedron"])
def test_a_body_of_a_laminate_is_one_of_its_analytic_stiffness(cell):
    rve = spon.read_rve(layered(cell, 2), {"soft": SOFT, "stiff": STIFF}, comm=MPI.COMM_SELF)
    with cantilever(on_mesh(cell, 1), degree=1, traction=0.01) as problem:
        found = problem.solve(spon.FEModel(rve))
        expected = problem.solve(Effective(laminate([SOFT, STIFF], 1, 6)))
    difference = np.abs(displacement(found) - displacement(expected)).max()
    assert difference <= 1e-9 * np.abs(displacement(expected)).max()
    assert found.iterations == 1


@pytest.mark.mpi
def test_a_body_in_space_falls_back_on_its_cell():
    """Doubtful points get what the cell says; Newton's method has the tangents of both."""
    cell = spon.read_rve(layered("tetrahedron", 2), {"soft": MATRIX, "stiff": FIBRE}, comm=MPI.COMM_SELF)
    with cantilever(on_mesh("tetrahedron", 1), degree=1, traction=5.0) as problem:
        plain = problem.solve(Doubtful(MATRIX, 6))
        limit = float(np.median(plain.gather(plain.micro.indicator)))
        model = spon.WithFallback(Doubtful(MATRIX, 6), spon.FEModel(cell), limit)
        solution = problem.solve(model)
    strain, stress = solution.gather(solution.micro.strain), solution.gather(solution.micro.stress)
    doubt = solution.gather(solution.micro.fallback)
    assert 0 < solution.fallback == doubt.sum() < len(doubt)
    for part, law in ((doubt, cell.solve), (~doubt, MATRIX.stress)):
        answer = law(torch.from_numpy(strain[part]))
        exact = getattr(answer, "stress", answer).numpy()
        assert np.abs(stress[part] - exact).max() <= 1e-6 * np.abs(exact).max()
