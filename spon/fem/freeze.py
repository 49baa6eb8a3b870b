"""Freeze a live space: Gram matrices, and maps to and from nodal features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import basix
import numpy as np
import scipy.sparse as sp
import ufl

from spon.fem.assembly import assembled
from spon.fem.canonical import CanonicalOrder
from spon.fem.levels import nodal
from spon.fem.mesh import TaggedMesh
from spon.fem.spaces import CanonicalSpace, Part, continuous_lagrange
from spon.fem.transfer import interpolation
from spon.space import Space

__all__ = ["features", "freeze_space", "nodal_interpolation", "seminorm"]


def freeze_space(order: CanonicalOrder, degree: int, energy: Any = None) -> Space:
    """Assemble what a processor needs to know of a space. Collective.

    Args:
        order: of the live space.
        degree: of the scalar Lagrange space that features live in.
        energy: UFL bilinear form of an energy norm, without boundary conditions, on this space.

    Returns:
        The same on every rank.
    """
    space, canonical = order.space, order.canonical
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    mixed = len(canonical.parts) > 1
    members = tuple((p.offset, p.size) for p in canonical.parts) if mixed else ()
    return Space(
        canonical.name,
        canonical.value_size,
        order.matrix(assembled(ufl.inner(u, v) * ufl.dx)),
        _stiffness(order, u, v),
        features(canonical, degree),
        nodal_interpolation(canonical.mesh, canonical.parts, (), degree),
        None if energy is None else order.matrix(assembled(energy)),
        members,
    )


def _stiffness(order: CanonicalOrder, u: Any, v: Any) -> sp.csr_array:
    integrand = seminorm(order.canonical, u, v)
    if isinstance(integrand, int):
        return sp.csr_array((order.size, order.size))
    return order.matrix(assembled(integrand * ufl.dx))


def seminorm(space: CanonicalSpace, u: Any, v: Any) -> Any:
    """Return the integrand of the seminorm that belongs to each member, summed.

    Gradients for Lagrange and DG (cell by cell), divergence for H(div), curl for H(curl).
    """
    split = len(space.parts) > 1
    pairs = zip(ufl.split(u), ufl.split(v), strict=True) if split else [(u, v)]
    total: Any = 0
    for part, (a, b) in zip(space.parts, pairs, strict=True):
        map_type = part.numbering.element.map_type
        if part.numbering.element.embedded_superdegree == 0:
            continue  # constant on each cell
        if map_type == basix.MapType.contravariantPiola:
            total += ufl.inner(ufl.div(a), ufl.div(b))
        elif map_type == basix.MapType.covariantPiola:
            total += ufl.inner(ufl.curl(a), ufl.curl(b))
        else:
            total += ufl.inner(ufl.grad(a), ufl.grad(b))
    return total


def features(space: CanonicalSpace, degree: int) -> sp.csr_array:
    """Return values at the nodes, (nodes · components, DoFs), components of a node adjacent.

    Where a function jumps between cells, the mean weighted with the share of each cell in the mass
    of the node.
    """
    rows, total = [], space.value_size
    first = 0
    for number, part in enumerate(space.parts):
        member = space.part(number) if len(space.parts) > 1 else space
        target = nodal(space.mesh, degree, part.value_size)
        jumps = not continuous_lagrange(part.numbering.element)
        if _is_nodal(part, target):
            values = sp.csr_array(sp.eye_array(part.size))
        else:
            values = interpolation(target, member, average=jumps)
        block = sp.coo_array(values)
        node, component = np.divmod(block.row.astype(np.int64), part.value_size)
        rows.append((block.data, node * total + first + component, block.col + part.offset))
        first += part.value_size
    nodes = nodal(space.mesh, degree).size
    return _joined(rows, (nodes * total, space.size))


def nodal_interpolation(
    mesh: TaggedMesh, parts: Sequence[Part], means: Sequence[int], degree: int
) -> sp.csr_array:
    """Return the interpolation of nodal values into a space, (DoFs, nodes · components).

    Args:
        mesh: of the space.
        parts: members of the space.
        means: DoFs behind the members that take the mean over the nodes of a component of their own.
        degree: of the scalar Lagrange space of the nodal values.
    """
    nodes = nodal(mesh, degree).size
    columns, first = [], 0
    total = sum(part.value_size for part in parts) + len(means)
    for part in parts:
        source = nodal(mesh, degree, part.value_size)
        if _is_nodal(part, source):
            values = sp.csr_array(sp.eye_array(part.size))
        else:
            values = interpolation(CanonicalSpace.of_part(mesh, part), source)
        block = sp.coo_array(values)
        node, component = np.divmod(block.col.astype(np.int64), part.value_size)
        columns.append((block.data, block.row + part.offset, node * total + first + component))
        first += part.value_size
    for number, dof in enumerate(means):
        where = np.arange(nodes) * total + first + number
        columns.append((np.full(nodes, 1.0 / nodes), np.full(nodes, dof), where))
    size = sum(part.size for part in parts) + len(means)
    return _joined(columns, (size, nodes * total))


def _is_nodal(part: Part, space: CanonicalSpace) -> bool:
    """Whether a member is the Lagrange space itself."""
    (other,) = space.parts
    return bool(part.numbering.element == other.numbering.element and part.block_size == other.block_size)


def _joined(blocks: list[Any], shape: tuple[int, int]) -> sp.csr_array:
    data, row, column = (np.concatenate(a) for a in zip(*blocks, strict=True))
    out = sp.csr_array((data, (row, column)), shape=shape)
    out.sort_indices()
    return out
