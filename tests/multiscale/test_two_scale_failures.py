"""Macroscopic problems that have no solution, or make no sense: what is said, on every rank."""

import pytest
import torch
from macros import SOFT, STIFF, WORLD, Partial, cantilever, on_mesh
from mpi4py import MPI

import spon


@pytest.mark.mpi
def test_a_point_without_an_answer_ends_the_run_on_every_rank():
    with cantilever(on_mesh(n=4), traction=8.0, load_steps=2, bisections=2) as problem:
        with pytest.raises(spon.SponError) as caught:
            problem.solve(Partial(limit=0.02))
        text = str(caught.value)
        problem.solve(spon.MaterialModel(SOFT))  # it can be used again
    assert len(set(WORLD.allgather(text))) == 1
    assert "\n" not in text
    for part in ("load step ", "has no answer at", "first point", "strain (", "step halved 2 times"):
        assert part in text


@pytest.mark.mpi
def test_an_error_of_the_model_on_one_rank_reaches_all():
    class Failing(Partial):
        def respond(self, strain, where=None):
            if (where == 5).any():
                raise spon.SponError("the cell cannot be solved")
            return super().respond(strain, where)

    with (
        cantilever(on_mesh()) as problem,
        pytest.raises(spon.SponError, match=r"^the cell cannot be solved$"),
    ):
        problem.solve(Failing())


@pytest.mark.mpi
def test_newtons_divergence_says_where():
    # the deviatoric stress is bounded by alpha1 = 50 and the load is not: there is no equilibrium
    problem = cantilever(on_mesh(), traction=500.0, bisections=1)
    with problem, pytest.raises(spon.SponError) as caught:
        problem.solve(spon.MaterialModel(SOFT))
    for part in (
        "load step 1 (load 0.5)",
        "iterations, residual",
        "largest strain at point",
        "load reached: 0,",
    ):
        assert part in str(caught.value)


def test_a_tangent_that_is_not_positive_definite_is_refused():
    class Unstable(Partial):
        def respond(self, strain, where=None):
            stress, tangent = STIFF.response(strain)
            return spon.Response(-stress, -tangent, None, torch.zeros(len(strain), dtype=torch.bool))

    mesh = on_mesh(comm=MPI.COMM_SELF)
    with cantilever(mesh) as problem, pytest.raises(spon.SponError, match="not positive definite after 0"):
        problem.solve(Unstable())


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"load_steps": 0}, "load_steps = 0; allowed: >= 1"),
        ({"rtol": 2.0}, "rtol = 2.0; allowed: between 0 and 1"),
        ({"degree": -1}, "degree = -1 of the quadrature"),
        ({"tractions": {"right": (1.0,)}}, r"'right' has shape \(1,\); allowed: \(2,\)"),
        ({"tractions": {"rigth": (1.0, 0.0)}}, "boundary 'rigth' not found"),
    ],
)
def test_bad_settings_are_refused(settings, text):
    mesh = on_mesh(n=2)
    with pytest.raises(spon.SponError, match=text):
        spon.TwoScaleProblem(mesh, spon.lagrange(mesh, 1, 2), {"left": 0.0}, **settings)


def test_wrong_spaces_and_models_are_refused():
    mesh = on_mesh(n=2, comm=MPI.COMM_SELF)
    with pytest.raises(spon.SponError, match="allowed: continuous vectors"):
        spon.TwoScaleProblem(mesh, spon.lagrange(mesh, 1), {"left": 0.0})
    with cantilever(mesh) as problem, pytest.raises(spon.SponError, match="of 6 components; allowed: 3"):
        problem.solve(spon.MaterialModel(SOFT, 6))
