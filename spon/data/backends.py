"""Backends: what solves for a batch of inputs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt

from spon.data.blocks import Block
from spon.data.dataset import Failure
from spon.data.fields import generator
from spon.data.ordering import nearest_neighbour_order
from spon.errors import SponError, agree
from spon.physics.assembled.problem import Problem, Solution

__all__ = ["BACKENDS", "Backend", "PetscBackend", "TorchBackend", "draw", "make_backend", "solve_samples"]

Floats = npt.NDArray[np.float64]
_ALIKE = 64  # samples that are put in order together


class Backend(ABC):
    """Solves a problem for batches of inputs.

    Args:
        problem: what to solve.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @abstractmethod
    def solve(self, numbers: Sequence[int], inputs: Floats) -> list[Solution | Failure]:
        """Solve. Collective over the ranks that share the mesh of the problem.

        Args:
            numbers: of the samples.
            inputs: (samples, DoFs of all inputs), the same on every rank.

        Returns:
            For each sample its solution, or why there is none; the same on every rank.
        """


class PetscBackend(Backend):
    """Solves one sample after the other by the problem's own PETSc solver."""

    def solve(self, numbers: Sequence[int], inputs: Floats) -> list[Solution | Failure]:
        """Solve. Collective over the ranks that share the mesh of the problem.

        Args:
            numbers: of the samples.
            inputs: (samples, DoFs of all inputs), the same on every rank.

        Returns:
            For each sample its solution, or why there is none.
        """
        return [self._solve(numbers[k], inputs[k]) for k in range(len(numbers))]

    def _solve(self, number: int, vector: Floats) -> Solution | Failure:
        try:
            return self.problem.solution(vector)
        except SponError as error:
            return Failure(number, str(error))


class TorchBackend(Backend):
    """Solves whole batches by multigrid in torch, to the relative tolerance 1e-12 of their residuals.

    Args:
        problem: one with `physics()`, its mesh on one rank.

    Raises:
        SponError: a mesh that is shared by several ranks, no physics or wrong ones, or levels that
            `MultigridSolver` refuses.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        from spon.physics.kernels.solver import MultigridSolver

        if problem.comm.size > 1:
            raise SponError(f"backend 'torch' with {problem.comm.size} ranks per sample; allowed: 1")
        if problem.verified_physics is None:
            raise SponError(
                f"backend 'torch' needs the physics of {type(problem).__name__}, which names none; "
                "allowed: petsc"
            )
        self.solver = MultigridSolver(problem.discretisation, problem.verified_physics)

    def solve(self, numbers: Sequence[int], inputs: Floats) -> list[Solution | Failure]:
        """Solve; where the batch as a whole fails, each sample by itself.

        Args:
            numbers: of the samples.
            inputs: (samples, DoFs of all inputs).

        Returns:
            For each sample its solution, with its share of the time, or why there is none.
        """
        try:
            return self._batch(numbers, inputs)
        except SponError as error:
            if len(numbers) == 1:
                return [Failure(numbers[0], str(error))]
            return [self.solve([number], inputs[k : k + 1])[0] for k, number in enumerate(numbers)]

    def _batch(self, numbers: Sequence[int], inputs: Floats) -> list[Solution | Failure]:
        import torch

        begun = time.perf_counter()
        shifts = [self.problem.shift(row) for row in inputs] if self.problem.boundary_data else []
        shift = torch.as_tensor(np.array(shifts)) if shifts else None
        with torch.no_grad():
            m = torch.as_tensor(np.ascontiguousarray(inputs))
            u, info = self.solver.solve(None, m, _RTOL, shift=shift, strict=False)
        values = u.numpy()
        seconds = (time.perf_counter() - begun) / len(numbers)
        out: list[Solution | Failure] = []
        for k, number in enumerate(numbers):
            if not bool(info.converged[k]):
                reached = float(info.reduction[k])
                out.append(Failure(number, f"no convergence: residual {reached:.3g} of the first"))
                continue
            statistics = {"iterations": float(info.iterations[k]), "seconds": seconds}
            if not self.problem.linear:
                statistics |= {
                    "newton_steps": float(info.newton[k]),
                    "load_steps": float(info.load_steps[k]),
                }
            out.append(Solution(values[k].copy(), statistics))
        return out


BACKENDS: dict[str, type[Backend]] = {"petsc": PetscBackend, "torch": TorchBackend}
_RTOL = 1e-12


def make_backend(name: str, problem: Problem) -> Backend:
    """Return the backend of a name.

    Raises:
        SponError: an unknown name.
    """
    if name not in BACKENDS:
        raise SponError(f"backend '{name}'; allowed: {', '.join(BACKENDS)}")
    return BACKENDS[name](problem)


def draw(problem: Problem, seed: int, number: int) -> Floats:
    """Return the inputs of one sample, (DoFs of all inputs,); they depend on (seed, number) alone.

    Collective over the ranks that share the mesh of the problem.

    Args:
        problem: what to draw for.
        seed: of the data set, ≥ 0.
        number: of the sample, ≥ 0.

    Raises:
        SponError: the problem cannot draw, or draws what does not fit its inputs.
    """
    alone = problem.comm.size == 1  # an exception of the problem file keeps its type and traceback
    try:
        with nullcontext() if alone else agree(problem.comm):
            return problem.vector(problem.sample(generator(seed, number)))
    except SponError as error:
        raise SponError(f"sample {number} (seed {seed}): {error}") from error


def solve_samples(
    backend: Backend, numbers: Sequence[int], seed: int, batch_size: int = 1, similar: bool = False
) -> Iterator[Block]:
    """Draw and solve, one block of samples after the other. Collective over the problem's ranks.

    What is not finite counts as failed.

    Args:
        backend: what solves.
        numbers: of the samples.
        seed: of the inputs.
        batch_size: samples that are solved at a time.
        similar: whether to solve each 64 samples in an order in which neighbours are alike.

    Raises:
        SponError: inputs that cannot be drawn.
    """
    problem = backend.problem
    for chosen, inputs in _drawn(problem, numbers, seed, batch_size, similar):
        solvable = np.flatnonzero(np.isfinite(inputs).all(axis=1))
        outcomes: list[Solution | Failure] = [Failure(n, "the inputs are not finite") for n in chosen]
        if len(solvable):
            solved = backend.solve([chosen[k] for k in solvable], inputs[solvable])
            for k, outcome in zip(solvable, solved, strict=True):
                outcomes[k] = _finite(chosen[k], outcome)
        yield Block.of(chosen, inputs, outcomes, problem.discretisation.dofs)


def _drawn(
    problem: Problem, numbers: Sequence[int], seed: int, batch_size: int, similar: bool
) -> Iterator[tuple[list[int], Floats]]:
    """Numbers and inputs of each batch."""
    window = max(_ALIKE, batch_size) if similar else batch_size
    for start in range(0, len(numbers), window):
        chosen = [int(n) for n in numbers[start : start + window]]
        inputs = np.array([draw(problem, seed, number) for number in chosen])
        if similar:
            order = nearest_neighbour_order(np.nan_to_num(inputs))
            chosen, inputs = [chosen[k] for k in order], inputs[order]
        for first in range(0, len(chosen), batch_size):
            part = slice(first, first + batch_size)
            yield chosen[part], inputs[part]


def _finite(number: int, outcome: Solution | Failure) -> Solution | Failure:
    if isinstance(outcome, Solution) and not np.isfinite(outcome.values).all():
        return Failure(number, "the solution is not finite")
    return outcome
