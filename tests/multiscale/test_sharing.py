"""Points that ranks share out: evenly, with the same answers, and no rank left waiting."""

import numpy as np
import pytest
import torch
from macros import SOFT as LAW
from macros import WORLD, Partial, cantilever, displacement, on_mesh
from mpi4py import MPI
from rves import SOFT, Softening, chequered, strains

import spon
from spon.multiscale.sharing import shares


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_shares_are_even_and_points_stay_where_they_were(seed, ranks):
    random = np.random.default_rng(seed)
    before, now = (set(random.integers(0, 41, random.integers(0, 40)).tolist()) for _ in range(2))
    first = sorted(before)
    homes = dict(zip(first, shares(first, {}, ranks), strict=True))
    for numbers in (sorted(now), sorted(before | now)):
        chosen = shares(numbers, homes, ranks)
        counts = np.bincount(np.array(chosen, dtype=int), minlength=ranks)
        assert counts.sum() == len(numbers)
        assert counts.max() - counts.min() <= 1
    assert all(homes[k] == rank for k, rank in zip(numbers, chosen, strict=True) if k in homes)


@pytest.mark.mpi
def test_points_of_one_rank_are_solved_on_all(cell):
    E, where = strains(3, 7), torch.arange(30, 37)
    alone, model = spon.FEModel(cell).respond(E), spon.FEModel(cell)
    last = WORLD.size - 1
    mine = slice(None) if WORLD.rank == last else slice(0)
    for _ in range(2):
        found = model.respond_together(E[mine], where[mine], WORLD)
        torch.testing.assert_close(found.stress, alone.stress[mine], rtol=1e-6, atol=0)
        scale = float(alone.tangent.abs().max())
        torch.testing.assert_close(found.tangent, alone.tangent[mine], rtol=0, atol=1e-5 * scale)
        assert found.failed.tolist() == [False] * len(E[mine])
    solved = WORLD.allgather(model.solved)
    assert sum(solved) == 14
    assert max(solved) - min(solved) <= 2


@pytest.mark.mpi
def test_the_fallback_is_shared_out_and_its_solution_does_not_depend_on_the_ranks():
    def solve(comm):
        model = spon.WithFallback(Partial(LAW, limit=0.02), spon.FEModel(chequered()), 0.01)
        with cantilever(on_mesh(n=2, comm=comm), traction=8.0, rtol=1e-12) as problem:
            solution = problem.solve(model)
        values = displacement(solution), solution.gather(solution.micro.stress)
        return values, solution.fallback, comm.allgather(model.reference.solved)

    (shared, points, solved), (alone, expected, _) = solve(WORLD), solve(MPI.COMM_SELF)
    assert points == expected > 0
    for one, other in zip(shared, alone, strict=True):
        assert np.abs(one - other).max() <= 1e-10 * np.abs(other).max()
    assert max(solved) - min(solved) <= 6  # one a call


@pytest.mark.mpi
def test_a_cell_without_equilibrium_ends_the_run_on_every_rank():
    model = spon.FEModel(chequered(laws=(Softening(), SOFT)))
    with cantilever(on_mesh(n=2), traction=0.05, bisections=0) as problem:
        with pytest.raises(spon.SponError) as caught:
            problem.solve(model)
        text = str(caught.value)
    assert len(set(WORLD.allgather(text))) == 1
    for part in ("load step 1 (load 1)", "has no answer at", "first point", "strain ("):
        assert part in text


@pytest.mark.mpi
@pytest.mark.parametrize("failing", ["surrogate", "cell"])
def test_an_error_on_one_rank_reaches_all(cell, failing):
    class Failing(spon.FEModel):
        def respond(self, strain, where=None):
            if (where == 5).any():
                raise spon.SponError("the cell is lost")
            return super().respond(strain, where)

    class Doubtful(Partial):
        def respond(self, strain, where=None):
            if failing == "surrogate" and (where == 5).any():
                raise spon.SponError("the surrogate is lost")
            return super().respond(strain, where)

    reference = Failing(cell) if failing == "cell" else spon.FEModel(cell)
    model = spon.WithFallback(Doubtful(limit=-1.0), reference, 1.0)  # all points are in doubt
    text = f"^the {failing} is lost$"
    with cantilever(on_mesh(n=2)) as problem, pytest.raises(spon.SponError, match=text):
        problem.solve(model)
