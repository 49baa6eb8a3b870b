"""Blocks of solved samples: what a run keeps, writes to a shard and merges into a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from spon.data.dataset import Dataset, Failure
from spon.physics.assembled.problem import Problem, Solution

__all__ = ["Block"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Samples that are done, solved or failed.

    Args:
        numbers: (samples,) of the solved ones.
        inputs: (samples, DoFs of all inputs).
        outputs: (samples, DoFs).
        statistics: name → (samples,), NaN where a solve did not give it.
        failures: the others.
    """

    numbers: Integers
    inputs: Floats
    outputs: Floats
    statistics: dict[str, Floats]
    failures: tuple[Failure, ...] = ()

    @classmethod
    def of(
        cls, numbers: Sequence[int], inputs: Floats, outcomes: Sequence[Solution | Failure], width: int
    ) -> Block:
        """Sort the outcomes of solves.

        Args:
            numbers: of the samples.
            inputs: (samples, DoFs of all inputs).
            outcomes: for each sample its solution, or why there is none.
            width: DoFs of an output.
        """
        good = [k for k, outcome in enumerate(outcomes) if isinstance(outcome, Solution)]
        solutions = [outcome for outcome in outcomes if isinstance(outcome, Solution)]
        names = sorted({name for solution in solutions for name in solution.statistics})
        return cls(
            np.array([numbers[k] for k in good], dtype=np.int64),
            inputs[good],
            np.reshape([s.values for s in solutions], (-1, width)),
            {n: np.array([s.statistics.get(n, np.nan) for s in solutions], float) for n in names},
            tuple(outcome for outcome in outcomes if isinstance(outcome, Failure)),
        )

    @classmethod
    def empty(cls, problem: Problem) -> Block:
        """Return a block without samples."""
        d = problem.discretisation
        width = sum(space.dofs for space in d.inputs.values())
        return cls.of([], np.empty((0, width)), [], d.dofs)

    @classmethod
    def merged(cls, blocks: Sequence[Block]) -> Block:
        """Join blocks in the order of the samples' numbers; of a sample that occurs twice one is kept.

        Args:
            blocks: at least one, all of one problem.
        """
        numbers, first = np.unique(np.concatenate([b.numbers for b in blocks]), return_index=True)
        names = sorted({name for b in blocks for name in b.statistics})
        missing = [np.full(len(b.numbers), np.nan) for b in blocks]
        columns = {
            name: [b.statistics.get(name, nan) for b, nan in zip(blocks, missing, strict=True)]
            for name in names
        }
        failures = {f.number: f for b in blocks for f in b.failures}
        return cls(
            numbers,
            np.concatenate([b.inputs for b in blocks])[first],
            np.concatenate([b.outputs for b in blocks])[first],
            {name: np.concatenate(parts)[first] for name, parts in columns.items()},
            tuple(failures[number] for number in sorted(failures)),
        )

    @property
    def done(self) -> set[int]:
        """Numbers of the samples, failed ones too."""
        return {int(n) for n in self.numbers} | {f.number for f in self.failures}

    def below(self, samples: int) -> Block:
        """Return the part with numbers below `samples`."""
        keep = self.numbers < samples
        statistics = {name: values[keep] for name, values in self.statistics.items()}
        failures = tuple(f for f in self.failures if f.number < samples)
        return Block(self.numbers[keep], self.inputs[keep], self.outputs[keep], statistics, failures)

    def write(self, group: h5py.Group) -> None:
        """Write into an empty HDF5 group, with the names of a data set file."""
        for name in ("numbers", "inputs", "outputs"):
            group[name] = getattr(self, name)
        for name, values in self.statistics.items():
            group[f"statistics/{name}"] = values
        group["failures/numbers"] = np.array([f.number for f in self.failures], dtype=np.int64)
        reasons = np.array([f.reason for f in self.failures], dtype=object)
        group.create_dataset("failures/reasons", data=reasons, dtype=h5py.string_dtype())

    @classmethod
    def read(cls, group: h5py.Group) -> Block:
        """Read what `write` wrote."""
        numbers, reasons = group["failures/numbers"][()], group["failures/reasons"].asstr()[()]
        return cls(
            group["numbers"][()],
            group["inputs"][()],
            group["outputs"][()],
            {name: values[()] for name, values in group.get("statistics", {}).items()},
            tuple(Failure(int(n), str(r)) for n, r in zip(numbers, reasons, strict=True)),
        )

    @classmethod
    def from_dataset(cls, data: Dataset) -> Block:
        """Return the samples of a data set."""
        statistics = {name: np.asarray(values) for name, values in data.statistics.items()}
        return cls(data.numbers, data.inputs, data.outputs, statistics, data.failures)

    def dataset(self, problem: Problem, seed: int, **more: Any) -> Dataset:
        """Return the samples as a data set; the problem's physics are verified already, or collectively now.

        Args:
            problem: that was solved.
            seed: of the inputs.
            more: further arguments of the data set.
        """
        return Dataset(
            problem.discretisation,
            self.inputs,
            self.outputs,
            self.numbers,
            seed,
            problem.output_name,
            dict(problem.units),
            dict(problem.boundary_data),
            self.statistics,
            self.failures,
            physics=problem.verified_physics,
            **more,
        )
