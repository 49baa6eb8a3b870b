"""Algebraic coarsening of a Lagrange space, for meshes that come without coarser ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.errors import SponError
from spon.sparse import congruent

__all__ = ["aggregates", "smoothed_prolongation"]

Integers = npt.NDArray[np.int64]


def smoothed_prolongation(
    stiffness: sp.csr_array, fixed: npt.NDArray[np.bool_]
) -> tuple[sp.csr_array, Integers]:
    """Return P = (I − ω D⁻¹K) T with T the indicator functions of aggregates.

    Smoothed aggregation (Vaněk, Mandel & Brezina 1996, Computing 56, 179-196) with ω = 4/3 / ρ and ρ
    the largest absolute row sum of D⁻¹K, an upper bound of its spectral radius. The rows of P sum to
    one, since K 1 = 0: constants are prolonged exactly.

    Args:
        stiffness: (nodes, nodes) K of the Laplacian without boundary conditions.
        fixed: (nodes,) nodes where the output is prescribed; no aggregate mixes them with others.

    Returns:
        (nodes, aggregates), and the root node of each aggregate.

    Raises:
        SponError: no node could be joined to another one.
    """
    number, roots = aggregates(stiffness, fixed)
    n = len(number)
    if len(roots) == n:
        raise SponError(f"{n} nodes cannot be aggregated any further; allowed: fewer levels")
    T = sp.csr_array((np.ones(n), (np.arange(n), number)), shape=(n, len(roots)))
    scaled = sp.csr_array(sp.diags_array(1.0 / stiffness.diagonal()) @ stiffness)
    rho = float(abs(scaled).sum(axis=1).max())
    smoother = sp.csr_array(sp.eye_array(n) - (4.0 / 3.0 / rho) * scaled)
    return congruent(smoother, None, T), roots


def aggregates(matrix: sp.csr_array, fixed: npt.NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """Group the nodes around roots that are at least three edges of the graph apart.

    The roots are a maximal independent set of distance two; each node joins the nearest root, ties by
    priority (Bell, Dalton & Olson 2012, SIAM J. Sci. Comput. 34, section 4). Priorities are a fixed hash
    of the node number, so that the result depends on the graph alone.

    Args:
        matrix: (nodes, nodes) whose pattern is the graph.
        fixed: (nodes,) nodes that only join one another.

    Returns:
        (nodes,) number of the aggregate of each node, and its root, (aggregates,).
    """
    graph = sp.coo_array(matrix)
    kept = fixed[graph.row] == fixed[graph.col]
    i, j = graph.row[kept].astype(np.int64), graph.col[kept].astype(np.int64)
    n = matrix.shape[0]
    priority = np.argsort(np.argsort(_hash(np.arange(n)), kind="stable"), kind="stable")
    undecided = np.ones(n, dtype=bool)
    root = np.zeros(n, dtype=bool)
    while undecided.any():
        near = _reach(np.where(undecided, priority, -1), i, j, n, 2)
        new = undecided & (near == priority)
        root |= new
        covered = _reach(np.where(new, 1, -1), i, j, n, 2)
        undecided &= covered < 0
    label = np.where(root, priority, -1)
    for _ in range(2):
        label = np.where(label >= 0, label, _reach(label, i, j, n, 1))
    roots = np.flatnonzero(root)
    number = np.full(n, -1, dtype=np.int64)
    number[priority[roots]] = np.arange(len(roots))
    return number[label], roots


def _reach(values: Integers, i: Integers, j: Integers, n: int, steps: int) -> Integers:
    """Return the largest value within a number of steps of each node."""
    for _ in range(steps):
        out = values.copy()
        np.maximum.at(out, i, values[j])
        values = out
    return values


def _hash(numbers: Integers) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea & Flood 2014, OOPSLA)."""
    z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
