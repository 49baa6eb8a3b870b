"""Costs go from group to group and from run to run, and no sample depends on them."""

import json

import numpy as np
import pytest
from conftest import Diffusion, on_square
from generating import SELF, WORLD, interrupted, same

import spon
from spon.data.backends import PetscBackend, solve_samples
from spon.data.costs import SharedCosts
from spon.data.generation import Generation, generate_file


class Tuned(Diffusion):
    def __init__(self, hierarchy):
        super().__init__(hierarchy)
        self.solver_options = "tuned"


def arms_tried(problem):
    return [record.arm for record in problem.system.solver.log]


def test_groups_try_what_others_have_not(tmp_path):
    problems = [Tuned(on_square(3, 2)) for _ in range(2)]
    shared = [SharedCosts(tmp_path, p.system.solver, SELF, i, 2) for i, p in enumerate(problems)]
    for number in range(25):
        for problem, costs in zip(problems, shared, strict=True):
            problem.solve(problem.sample(np.random.default_rng(number)))
            costs.exchange()
    names = [arm.name for arm in problems[0].system.solver.arms]
    tried = [problem.system.solver.costs.keys() for problem in problems]
    assert not any(problem.system.solver.untried for problem in problems)
    assert tried[0] | tried[1] == set(names)
    assert names[2] in tried[0]
    assert names[1] in tried[1]
    first = [list(dict.fromkeys(arms_tried(problem))) for problem in problems]
    assert first[0][:2] == [names[0], names[2]]
    assert first[1][:2] == [names[0], names[1]]


@pytest.mark.parametrize("damage", [None, "text", "key", "list"])
def test_costs_of_an_earlier_run_spare_trials(tmp_path, damage):
    first, second = Tuned(on_square(3, 2)), Tuned(on_square(3, 2))
    costs = SharedCosts(tmp_path, first.system.solver, SELF, 0, 1)
    for number in range(25):
        first.solve(first.sample(np.random.default_rng(number)))
        costs.exchange()
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text())
    assert content["costs"].keys() == first.system.solver.costs.keys()
    if damage is not None:
        other = {"text": '{"key"', "key": json.dumps(content | {"key": [0]}), "list": "[1]"}
        file.write_text(other[damage])
    SharedCosts(tmp_path, second.system.solver, SELF, 0, 1).exchange()
    assert second.system.solver.untried == (damage is not None)


@pytest.mark.mpi
def test_a_file_does_not_depend_on_who_tried_what(shared_folder):
    reference = Tuned(on_square(3, 2))
    expected = spon.generate(reference, 12, seed=1, comm=SELF)
    for name, comm in (("a.h5", SELF), ("b.h5", WORLD)):
        problem = Tuned(on_square(3, 2, comm))
        generate_file(problem, shared_folder / name, Generation(12, seed=1, similar=name == "b.h5"), WORLD)
        same(spon.Dataset.load(shared_folder / name), expected)


def test_an_interrupted_run_leaves_its_costs_and_the_next_one_takes_them(tmp_path, monkeypatch):
    problem = Tuned(on_square(3, 2))
    interrupted(problem, tmp_path / "a.h5", 60, 14, monkeypatch)
    assert list((tmp_path / "a.h5.parts").glob("costs-*.json"))
    again = Tuned(on_square(3, 2))
    monkeypatch.setattr(spon.TunedSolver, "divide_trials", lambda *_: None)
    generate_file(again, tmp_path / "a.h5", Generation(32, seed=1), SELF)
    assert not again.system.solver.untried
    assert len(again.system.solver.costs) < len(again.system.solver.arms)  # it never had to try them all
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_alike_samples_follow_each_other(problem):
    backend = PetscBackend(problem)
    given = list(solve_samples(backend, range(9), 1))
    alike = list(solve_samples(backend, range(9), 1, similar=True))
    numbers = [int(block.numbers[0]) for block in alike]
    assert sorted(numbers) == list(range(9))
    assert numbers != list(range(9))
    outputs = {int(block.numbers[0]): block.outputs for block in given}
    for block in alike:
        np.testing.assert_array_equal(block.outputs, outputs[int(block.numbers[0])])
    inputs = np.concatenate([block.inputs for block in alike])
    for k in range(8):
        distances = np.linalg.norm(inputs[k + 1 :] - inputs[k], axis=1)
        assert distances[0] == distances.min()


def test_other_solvers_have_no_costs(problem, tmp_path):
    SharedCosts(tmp_path, problem.system.solver, SELF, 0, 1).exchange()
    assert list(tmp_path.iterdir()) == []


def test_recycled_solves_are_there_on_request(tmp_path):
    kind = spon.load_problem(spon.find_problem("helmholtz.py")).Helmholtz
    direct, recycled = (kind.from_mesh(None, SELF, refinements=0) for _ in range(2))
    direct.solver_options, recycled.solver_options = None, "recycled"
    made = []
    for problem in (direct, recycled):
        generate_file(
            problem, tmp_path / "a.h5", Generation(22, similar=True, force=True, overwrite=True), SELF
        )
        made.append(spon.Dataset.load(tmp_path / "a.h5"))
        (tmp_path / "a.h5").unlink()
    np.testing.assert_allclose(made[0].outputs, made[1].outputs, atol=1e-8)
    assert max(made[1].statistics["iterations"]) > 3
    assert len(made[1]) == 22
