"""Which processor learns a data set where none was named."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

import torch

from spon.data.dataset import Dataset
from spon.errors import SponError
from spon.nn.processors import find_processor
from spon.physics.kernels.solver import MultigridSolver

__all__ = ["default_processor", "has_cycles"]


def default_processor(data: Sequence[Dataset], settings: Iterable[str] = ()) -> tuple[str, str]:
    """Return the name of a processor, and the reason for it in words.

    `LearnedCorrection` where all data sets have linear equations and two levels or more: in the same time,
    with and without labels, its errors were several times smaller than those of `Multigrid`
    (benchmarks/labels.py). `Multigrid` otherwise, also for nonlinear equations, where one training step of
    `LearnedCorrection` is all of Newton's steps.

    Args:
        data: on one mesh each.
        settings: names of arguments that the processor has to have.

    Returns:
        A name that `find_processor` knows, and why.
    """
    if any(d.physics is None for d in data):
        return "Multigrid", "no equations in the data"
    if any(len(d.discretisation.levels) < 2 for d in data):
        return "Multigrid", "equations on a single level"
    if not all(map(has_cycles, data)):
        return "Multigrid", "nonlinear equations, or such as have no multigrid cycles"
    known = inspect.signature(find_processor("LearnedCorrection")).parameters
    foreign = [name for name in settings if name not in known]
    if foreign:
        return "Multigrid", f"of the setting processor.{foreign[0]}"
    return "LearnedCorrection", "linear equations in the data, two levels or more"


def has_cycles(data: Dataset) -> bool:
    """Whether a data set has linear equations that multigrid cycles can be made for."""
    if data.physics is None:
        return False
    try:
        solver = MultigridSolver(data.discretisation, data.physics)
        solver.prepare(torch.as_tensor(data.inputs[:1]))
    except SponError:  # a field without kernels, too many unknowns on the coarsest level, ...
        return False
    return solver.kernel.linear
