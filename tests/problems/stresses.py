"""Derived fields of problems at the corners of their cells."""

import numpy as np
from basix import CellType, geometry
from dolfinx import fem

import spon


def von_mises(problem: spon.Problem, u: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Von Mises stress, (cells, corners), on one rank, in the order of the live mesh.

    Args:
        problem: with a derived field "von_mises".
        u: (DoFs,) displacement.
        m: (DoFs,) inputs.
    """
    live, mesh = fem.Function(problem.space), problem.hierarchy.finest.dolfinx
    problem.order.scatter(u, live)
    problem.coefficients.set(m)
    corners = geometry(CellType[problem.hierarchy.finest.arrays.cell_type])
    expression = fem.Expression(problem.derived(live, problem.coefficients.ufl)["von_mises"], corners)
    cells = mesh.topology.index_map(mesh.topology.dim).size_local
    return np.asarray(expression.eval(mesh, np.arange(cells, dtype=np.int32))).reshape(cells, -1)
