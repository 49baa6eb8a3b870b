"""Assemble a discretisation once, in parallel."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import ufl
from dolfinx import fem

from spon.constraint import Constraint
from spon.discretisation import Discretisation, Level, fingerprint
from spon.fem.canonical import CanonicalOrder
from spon.fem.forms import assembled, assembled_vector
from spon.fem.mesh import TaggedMesh
from spon.fem.refinement import Hierarchy
from spon.fem.solver import ConstrainedSolver

__all__ = ["assembled", "assembled_vector", "discretise", "lagrange"]

_SOLVER = {"ksp_type": "cg", "pc_type": "hypre", "ksp_rtol": 1e-13, "ksp_max_it": 200}


def lagrange(mesh: TaggedMesh) -> Any:
    """Return the scalar first-order Lagrange space on a mesh."""
    return fem.functionspace(mesh.dolfinx, ("Lagrange", 1))


def discretise(hierarchy: Hierarchy, space: Any, constraint: Constraint) -> Discretisation:
    """Assemble Gram matrices on all levels, the lift and the cut-off. Collective.

    Args:
        hierarchy: nested meshes.
        space: first-order Lagrange space on the finest.
        constraint: of the output, in canonical order.

    Returns:
        The same arrays on every rank, in canonical order.

    Raises:
        SponError: the space is not on the finest mesh or not first-order Lagrange.
    """
    finest = hierarchy.finest
    order = CanonicalOrder(finest, space)
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    stiffness = assembled(ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx)
    levels = []
    for number, mesh in enumerate(hierarchy.meshes):
        last = number == len(hierarchy.meshes) - 1
        prolongation = None if last else hierarchy.prolongations[number]
        matrices = _gram(mesh, order if number == 0 else None)
        points, cells = mesh.arrays.points, mesh.arrays.cells
        fixed = constraint.fixed[: len(points)]  # refinement numbers the coarse points first
        levels.append(Level(points, cells, *matrices, fixed, prolongation))
    lift = constraint.shift
    cutoff: Any = np.ones(len(order.everywhere))
    if constraint.fixed.any():
        zero = assembled_vector(ufl.inner(fem.Constant(finest.dolfinx, 0.0), v) * ufl.dx)
        one = assembled_vector(ufl.inner(fem.Constant(finest.dolfinx, 1.0), v) * ufl.dx)
        if lift.any():
            with ConstrainedSolver(order, constraint, _SOLVER) as solver:
                lift = order.gather(solver.solve(stiffness, zero))
        homogeneous = Constraint(constraint.Z, np.zeros_like(lift))
        with ConstrainedSolver(order, homogeneous, _SOLVER) as solver:
            cutoff = order.gather(solver.solve(stiffness, one))
        cutoff /= cutoff.max()
    arrays = finest.arrays
    boundaries = {name: arrays.facets[arrays.facet_tags == tag] for name, tag in arrays.facet_names.items()}
    lifted = Constraint(constraint.Z, lift)
    coarse = hierarchy.meshes[-1].arrays
    mark = fingerprint(coarse.points, coarse.cells, len(levels), lifted)
    return Discretisation(tuple(levels), lifted, cutoff, boundaries, mark)


def _gram(mesh: TaggedMesh, order: CanonicalOrder | None) -> tuple[sp.csr_array, sp.csr_array]:
    space = order.space if order is not None else lagrange(mesh)
    order = order if order is not None else CanonicalOrder(mesh, space)
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    mass = order.matrix(assembled(ufl.inner(u, v) * ufl.dx))
    return mass, order.matrix(assembled(ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx))
