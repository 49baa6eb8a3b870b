"""Freeze the levels that features live on."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import basix
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import ufl
from dolfinx import fem

from spon.fem import reference
from spon.fem.aggregation import smoothed_prolongation
from spon.fem.assembly import assembled
from spon.fem.canonical import CanonicalOrder
from spon.fem.hierarchy import Hierarchy
from spon.fem.mesh import TaggedMesh
from spon.fem.spaces import CanonicalSpace, lagrange_element
from spon.fem.topology import REFERENCE
from spon.fem.transfer import interpolation
from spon.level import Level, Reference
from spon.sparse import congruent

__all__ = ["freeze_levels", "injected", "nodal_level", "reference_element"]

Bools = npt.NDArray[np.bool_]


def freeze_levels(hierarchy: Hierarchy, degree: int, fixed: Bools) -> tuple[Level, ...]:
    """Assemble scalar Lagrange spaces on all levels. Collective.

    The finest level has the given degree; if that is above one, a level of first order on the same
    mesh follows; then the coarser meshes, all of first order, and the algebraic levels.

    Args:
        hierarchy: meshes, finest first.
        degree: of the finest level.
        fixed: (nodes of the finest level,) where every latent component is prescribed.

    Returns:
        Finest first, the same on every rank.
    """
    steps = [(0, degree)] if degree > 1 else []
    steps += [(number, 1) for number in range(len(hierarchy.meshes))]
    prolongations: list[sp.csr_array | None] = []
    for (fine, p), (coarse, q) in pairwise(steps):
        if fine == coarse:
            target, source = (nodal(hierarchy.meshes[fine], k) for k in (p, q))
            prolongations.append(interpolation(target, source))
        else:
            prolongations.append(hierarchy.prolongation(fine, p, q))
    levels: list[Level] = []
    for (number, k), P in zip(steps, [*prolongations, None], strict=True):
        mesh = hierarchy.meshes[number]
        space = fem.functionspace(mesh.dolfinx, lagrange_element(mesh.arrays.cell_type, k))
        order = CanonicalOrder(mesh, space)
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        mass = order.matrix(assembled(ufl.inner(u, v) * ufl.dx))
        stiffness = order.matrix(assembled(ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx))
        levels.append(nodal_level(mesh, k, mass, stiffness, fixed, P))
        if P is not None:
            fixed = injected(P, fixed)
    for _ in range(hierarchy.aggregations):
        levels = _aggregated(levels)
    return tuple(levels)


def nodal(mesh: TaggedMesh, degree: int, components: int = 1) -> CanonicalSpace:
    """Return the Lagrange space of a degree in canonical order."""
    return CanonicalSpace(mesh, lagrange_element(mesh.arrays.cell_type, degree, components))


def nodal_level(
    mesh: TaggedMesh,
    degree: int,
    mass: sp.csr_array,
    stiffness: sp.csr_array,
    fixed: Bools,
    prolongation: sp.csr_array | None,
) -> Level:
    """Return the level of a mesh with the scalar Lagrange space of a degree."""
    arrays = mesh.arrays
    space = nodal(mesh, degree)
    cells = space.parts[0].numbering.dofmap
    straight = degree == 1 and arrays.degree == 1
    return Level(
        space.nodes,
        cells,
        mass,
        stiffness,
        fixed,
        prolongation,
        reference_element(arrays.cell_type, degree, arrays.degree),
        None if straight else (arrays.points, arrays.cells),
    )


@lru_cache
def reference_element(
    cell_type: str, degree: int, geometry: int, quadrature_degree: int | None = None
) -> Reference:
    """Tabulate a scalar Lagrange element with a coordinate element.

    Args:
        cell_type: such as "triangle".
        degree: of the element.
        geometry: degree of the coordinate element.
        quadrature_degree: of the rule; default: one that is exact for the stiffness of affine cells.
    """
    kind = REFERENCE[cell_type]
    variant = basix.LagrangeVariant.gll_warped
    element = basix.create_element(basix.ElementFamily.P, kind, degree, variant)
    simplex = cell_type in ("triangle", "tetrahedron")
    exact = 2 * (degree - 1) if simplex else 2 * degree
    if quadrature_degree is None:
        quadrature_degree = exact + 2 * (geometry - 1)
    X, weights = reference.quadrature(cell_type, quadrature_degree)
    nodes = reference.nodes(cell_type, degree)
    here, there = element.tabulate(1, X), element.tabulate(1, nodes)
    maps = [reference.tabulate(cell_type, geometry, points)[1].transpose(2, 0, 1) for points in (X, nodes)]
    tables: Any = (here[0, :, :, 0], here[1:, :, :, 0], maps[0], there[1:, :, :, 0], maps[1])
    return Reference(cell_type, degree, weights, *(np.ascontiguousarray(t) for t in tables))


def injected(P: sp.csr_array, fixed: Bools) -> Bools:
    """Which coarse functions have no value at a free node of the finer level that matters to them.

    A coarse node counts as fixed if the fine node where its function is largest is fixed.
    """
    columns = sp.csc_array(P)
    largest = np.maximum.reduceat(columns.data, columns.indptr[:-1])
    owner = np.repeat(np.arange(P.shape[1]), np.diff(columns.indptr))
    top = columns.data >= largest[owner] - 1e-12
    out = np.zeros(P.shape[1], dtype=bool)
    out[owner[top][::-1]] = fixed[columns.indices[top]][::-1]  # the first of equals
    return out


def _aggregated(levels: list[Level]) -> list[Level]:
    """Add one algebraic level."""
    *finer, last = levels
    P, roots = smoothed_prolongation(last.stiffness, last.fixed)
    last = replace(last, prolongation=P)
    mass, stiffness = congruent(last.mass, P, P), congruent(last.stiffness, P, P)
    none = np.empty((0, last.cells.shape[1]), dtype=np.int64)
    points, fixed = last.points[roots], last.fixed[roots]
    coarse = Level(points, none, mass, stiffness, fixed, None, last.reference, None, last)
    return [*finer, last, coarse]
