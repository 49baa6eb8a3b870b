"""What every problem file promises."""

import numpy as np
import pytest
from mpi4py import MPI
from stresses import von_mises

import spon

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF
CASES = {
    "darcy": ("Darcy", {}),
    "darcy lognormal": ("Darcy", {"kind": "lognormal"}),
    "notch": ("Notch", {}),
    "notch horizontal": ("Notch", {"horizontal": True}),
    "elasticity": ("Elasticity", {}),
    "elasticity P2": ("Elasticity", {"degree": 2}),
    "bracket": ("Bracket", {}),
    "hyperelasticity": ("Hyperelasticity", {}),
    "helmholtz": ("Helmholtz", {}),
    "helmholtz incidence": ("Helmholtz", {"random": "incidence"}),
    "plate": ("Plate", {}),
}


def make(case, comm):
    """A problem on its own mesh, not refined."""
    name, options = CASES[case]
    cls = getattr(spon.load_problem(spon.find_problem(f"{case.split()[0]}.py")), name)
    return cls.from_mesh(group=comm, refinements=0, **options)


@pytest.mark.mpi
@pytest.mark.parametrize("case", CASES)
def test_a_sample_does_not_depend_on_the_number_of_ranks(case):
    alone, spread = make(case, SELF), make(case, WORLD)
    m, same = (problem.vector(problem.sample(np.random.default_rng(5))) for problem in (alone, spread))
    np.testing.assert_allclose(same, m, atol=1e-10 * np.abs(m).max())
    u = alone.solve(m)
    np.testing.assert_allclose(spread.solve(m), u, atol=1e-10 * np.abs(u).max())


@pytest.mark.parametrize("case", CASES)
def test_boundary_values_are_exact_and_samples_reproducible(case):
    problem = make(case, SELF)
    m, other = (problem.vector(problem.sample(np.random.default_rng(k))) for k in (0, 1))
    u = problem.solve(m)
    shift = problem.shift(m)
    constraint = problem.constraint if shift is None else problem.constraint.with_shift(shift)
    assert constraint.violation(u[None]).max() == 0.0
    parts = problem.coefficients.split(m)
    for name, boundary in problem.boundary_data.items():
        np.testing.assert_array_equal(u[problem.discretisation.boundary_dofs[boundary]], parts[name])
    different = problem.solve(other)
    assert np.abs(different - u).max() > 1e-3 * np.abs(u).max()
    np.testing.assert_array_equal(problem.vector(problem.sample(np.random.default_rng(0))), m)
    np.testing.assert_allclose(problem.solve(m), u, atol=1e-12 * np.abs(u).max())


@pytest.mark.parametrize("name", sorted(p.stem for p in spon.find_problem("plate.py").parent.glob("*.py")))
def test_every_problem_file_is_tested_here(name):
    assert name in {case.split()[0] for case in CASES}


@pytest.mark.parametrize("name", ["elasticity", "bracket", "hyperelasticity"])
def test_derived_stresses_are_positive_functions_of_the_solution(name):
    problem, found = make(name, SELF), []
    for number in range(2):
        m = problem.vector(problem.sample(np.random.default_rng(number)))
        found.append(von_mises(problem, problem.solve(m), m))
        assert found[-1].min() > 0
    assert np.abs(found[1] - found[0]).max() > 0.01 * found[0].max()
