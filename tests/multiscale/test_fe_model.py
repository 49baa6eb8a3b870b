"""The solved cell as a microscale: starts, failures, and work that ranks share."""

import pytest
import torch
from mpi4py import MPI
from rves import FIBRE, MATRIX, SOFT, Softening, chequered, layered, strains

import spon
from spon.multiscale.rve_solver import RVENotConverged


def test_points_without_equilibrium_are_marked():
    model = spon.FEModel(chequered(laws=(Softening(), SOFT)))
    E = torch.tensor([[0.001, 0.0, 0.0], [0.4, 0.2, 0.3]], dtype=torch.float64)
    response = model.respond(E, torch.tensor([5, 9]))
    assert response.failed.tolist() == [False, True]
    assert response.stress[0].isfinite().all()
    assert response.stress[1].isnan().all()
    with pytest.raises(RVENotConverged, match=r"sample 1: no equilibrium at the strain \(0.4, 0.2, 0.3\)"):
        model.rve.solve(E)


def steps(model, strain, where=None):
    before = model.iterations
    return model.respond(strain, where), model.iterations - before


def test_the_fe_model_starts_where_it_was(cell, solved):
    E, found = solved
    model, where = spon.FEModel(cell, tolerance=1e-7), torch.tensor([7, 0, 3])
    taken = []
    for points in (None, where, where, where.flip(0)):
        response, count = steps(model, E, points)
        torch.testing.assert_close(response.stress, found.stress, rtol=1e-9, atol=1e-8)
        torch.testing.assert_close(response.tangent, found.tangent, rtol=1e-7, atol=1e-5)
        assert not response.failed.any()
        taken.append(count)
    assert taken[0] == taken[1] > taken[2]  # the same strains at the same points
    assert taken[3] > taken[2]
    with pytest.raises(spon.SponError, match=r"\(3,\) points for 2 strains; allowed: one for each"):
        model.respond(E[:2], where)


def test_sensitivities_save_steps_and_memory_is_bounded(cell, solved):
    E, _ = solved
    where, n, bytes_of_one = torch.arange(3), 3, 4 * cell.solver.assembly.size
    taken, answers = [], []
    for memory in (0, 3 * bytes_of_one, 3 * (n + 1) * bytes_of_one):
        model = spon.FEModel(cell, 1e-6, memory)
        first, _ = steps(model, E, where)
        second, count = steps(model, 1.001 * E, where)
        assert model.kept <= memory
        taken.append(count)
        answers.append((first.stress, second.stress))
    assert taken[0] >= taken[1] > taken[2]
    for other in answers[1:]:
        for one, another in zip(answers[0], other, strict=True):
            torch.testing.assert_close(another, one, rtol=1e-9, atol=1e-9)
    with pytest.raises(spon.SponError, match=r"memory = -1 bytes; allowed: >= 0"):
        spon.FEModel(cell, memory=-1)
    with pytest.raises(spon.SponError, match=r"tolerance = 0 .*; allowed: between 0 and 1"):
        spon.FEModel(cell, tolerance=0)


@pytest.mark.mpi
def test_cases_are_the_same_on_any_number_of_ranks(tmp_path):
    comm, E = MPI.COMM_WORLD, strains(3, 4)
    arrays = layered("triangle", 4)
    rve = spon.read_rve(arrays, {"soft": MATRIX, "stiff": FIBRE}, comm=comm)
    found, alone = spon.solve_cases(rve, E, comm), rve.solve(E)
    for name, value in vars(alone).items():
        if name not in ("residual", "iterations"):
            torch.testing.assert_close(getattr(found, name), value, rtol=1e-9, atol=1e-9)
    bad = spon.read_rve(arrays, {"soft": Softening(), "stiff": SOFT}, comm=comm)
    E[1] = torch.tensor([0.4, 0.2, 0.3])
    E[[0, 2, 3]] = 0
    with pytest.raises(spon.SponError, match="case 1: no equilibrium"):
        spon.solve_cases(bad, E, comm)
