"""The finite-element floor: the error that no operator into this space can avoid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from mpi4py import MPI

from spon.data.dataset import Dataset
from spon.errors import agree
from spon.fem.encoding import Dofs
from spon.fem.sensors import Parameters
from spon.fem.trace import Trace
from spon.fem.transfer import interpolation
from spon.physics.assembled.problem import Problem
from spon.progress import progress_bar

__all__ = ["FloorErrors", "fe_floor"]


@dataclass(frozen=True)
class FloorErrors:
    """Relative errors against the reference, one per sample.

    Args:
        best_l2: of the best approximation in the space, L2 norm, (samples,).
        best_h1: of the best approximation in the space, H1 norm, (samples,).
        solve_l2: of the finite-element solution, L2 norm, (samples,).
        solve_h1: of the finite-element solution, H1 norm, (samples,).
    """

    best_l2: npt.NDArray[np.float64]
    best_h1: npt.NDArray[np.float64]
    solve_l2: npt.NDArray[np.float64]
    solve_h1: npt.NDArray[np.float64]


def fe_floor(problem: Problem, dataset: Dataset, comm: MPI.Comm = MPI.COMM_WORLD) -> FloorErrors:
    """Compare with solutions on the mesh refined once more. Collective over `comm`.

    The reference uses the same input (a function of the coarser space is one of the finer). Its own
    error is about half (H1) or a quarter (L2) of the coarser solution's, so that the floor is
    underestimated by about as much. Best approximations are orthogonal projections in the norm.

    Args:
        problem: whose mesh lives on `MPI.COMM_SELF`; ranks share the samples. Any element that is
            not mixed.
        dataset: inputs, and solutions on the problem's mesh.
        comm: all the ranks.

    Returns:
        Errors of all samples, on every rank.
    """
    finer = problem.refined()
    prolongation = _output_prolongation(problem, finer)
    inputs = _input_prolongation(problem, finer)
    grams = {norm: finer.discretisation.output.gram(norm) for norm in ("l2", "h1")}
    coarse = {n: prolongation.T @ g @ prolongation for n, g in grams.items()}
    project = {n: spla.factorized(sp.csc_matrix(g)) for n, g in coarse.items()}
    numbers = np.arange(comm.rank, len(dataset), comm.size)
    rows = []
    with agree(comm), progress_bar(len(numbers), "reference", "sample", comm.rank == 0) as bar:
        for i in numbers:
            u = finer.solution(inputs @ dataset.inputs[i]).values
            row = []
            for norm, gram in grams.items():
                size = np.sqrt(u @ (gram @ u))
                best = project[norm](prolongation.T @ (gram @ u))
                for v in (best, dataset.outputs[i]):
                    difference = u - prolongation @ v
                    row.append(np.sqrt(difference @ (gram @ difference)) / size)
            rows.append(row)
            bar.update()
    found = np.empty((len(dataset), 4))
    for rank, part in enumerate(comm.allgather(np.array(rows).reshape(-1, 4))):
        found[rank :: comm.size] = part
    best_l2, solve_l2, best_h1, solve_h1 = found.T
    return FloorErrors(best_l2, best_h1, solve_l2, solve_h1)


def _output_prolongation(problem: Problem, finer: Problem) -> sp.csr_array:
    where = finer.hierarchy.transfers[0]
    return interpolation(finer.order.canonical, problem.order.canonical, where)


def _input_prolongation(problem: Problem, finer: Problem) -> sp.csr_array:
    """The inputs of the finer problem for the same functions, one input after the other."""
    blocks: list[Any] = []
    for name, encoder in problem.encoders.items():
        other = finer.encoders[name]
        if isinstance(encoder, Parameters):
            blocks.append(sp.eye_array(len(encoder.names)))
            continue
        assert isinstance(encoder, Dofs)
        assert isinstance(other, Dofs)
        block = interpolation(other.order.canonical, encoder.order.canonical, finer.hierarchy.transfers[0])
        if isinstance(encoder, Trace):
            assert isinstance(other, Trace)
            block = block[other.dofs][:, encoder.dofs]
        blocks.append(block)
    return sp.csr_array(sp.block_diag(blocks, format="csr"))
