"""Sparse maps between finite-element spaces: evaluation, interpolation, discrete derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import basix
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.errors import SponError
from spon.fem.geometry import Geometry
from spon.fem.numbering import Numbering
from spon.fem.spaces import CanonicalSpace, Part, point_values

__all__ = ["Location", "evaluation", "functionals", "interpolate", "interpolation", "reference_map"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Location:
    """Points given by the cells of a mesh that they lie in.

    Attributes:
        cells: (n,) cell of the input mesh.
        X: (n, tdim) reference coordinates there.
    """

    cells: Integers
    X: Floats

    def __getitem__(self, which: Any) -> Location:
        return Location(self.cells[which], self.X[which])


def evaluation(space: CanonicalSpace, where: Location) -> sp.csr_array:
    """Return the values at points of functions of a space.

    Args:
        space: with functions of one or several components; those of a mixed space are stacked.
        where: points.

    Returns:
        (points · components, DoFs); the components of a point are adjacent.
    """
    total, n = space.value_size, len(where.cells)
    rows, columns, values = [], [], []
    first = 0
    for part in space.parts:
        basis = _basis(space.mesh.geometry, part.numbering, where)  # (n, dofs, components)
        dofs = part.numbering.dofmap[where.cells]
        for copy in range(part.block_size):
            for component in range(basis.shape[2]):
                row = np.arange(n) * total + first + copy * basis.shape[2] + component
                rows.append(np.broadcast_to(row[:, None], dofs.shape).ravel())
                columns.append((part.offset + part.block_size * dofs + copy).ravel())
                values.append(basis[:, :, component].ravel())
        first += part.value_size
    value = np.concatenate(values)
    kept = np.abs(value) > 1e-14 * np.abs(value).max(initial=0.0)
    row, column = np.concatenate(rows)[kept], np.concatenate(columns)[kept]
    out = sp.csr_array((value[kept], (row, column)), shape=(n * total, space.size))
    out.sort_indices()
    return out


def _basis(geometry: Geometry, numbering: Numbering, where: Location) -> Floats:
    """Tabulate physical basis functions, (points, DoFs, components)."""
    element = numbering.element
    phi = np.array(element.tabulate(0, where.X)[0])
    for dofs, blocks in numbering.entity_blocks(where.cells):
        phi[:, dofs] = np.einsum("nij,njc->nic", blocks, phi[:, dofs])
    if element.map_type == basix.MapType.identity:
        return phi
    J = geometry.jacobians(where.cells, where.X)
    if element.map_type == basix.MapType.contravariantPiola:
        return np.einsum("nij,nkj->nki", J, phi) / np.linalg.det(J)[:, None, None]
    if element.map_type == basix.MapType.covariantPiola:
        return np.einsum("nji,nkj->nki", np.linalg.inv(J), phi)
    raise SponError(f"maps of {element.map_type.name} elements are not supported")


def _pull_back(geometry: Geometry, element: Any, where: Location) -> Floats | None:
    """Return the matrices of the inverse Piola map at points, (points, c, c); None for the identity."""
    if element.map_type == basix.MapType.identity:
        return None
    J = geometry.jacobians(where.cells, where.X)
    if element.map_type == basix.MapType.contravariantPiola:
        return np.linalg.inv(J) * np.linalg.det(J)[:, None, None]
    if element.map_type == basix.MapType.covariantPiola:
        return np.ascontiguousarray(J.transpose(0, 2, 1))
    raise SponError(f"maps of {element.map_type.name} elements are not supported")


def interpolation(
    target: CanonicalSpace, source: CanonicalSpace, where: Any = None, average: bool = False
) -> sp.csr_array:
    """Return the interpolation of functions of one space into another.

    Args:
        target: not mixed; take `part(i)` of a mixed space.
        source: with as many components.
        where: function (cells, X) ↦ `Location` on the mesh of `source`, of points given on the mesh
            of `target`; default: both are on the same mesh.
        average: where the source jumps between the cells of a node, take the mean weighted with
            the share of each cell in the mass of the node, instead of the value in the first cell.
            The target must be Lagrange.

    Returns:
        (DoFs of target, DoFs of source): exact for every function of `source` that lies in `target`.

    Raises:
        SponError: different numbers of components; a mean into another element than Lagrange.
    """
    if len(target.parts) != 1:
        raise SponError(f"cannot interpolate into the mixed space {target.name}; take its parts")
    if target.value_size != source.value_size:
        raise SponError(
            f"{target.name} has {target.value_size} components, {source.name} has {source.value_size}"
        )
    (part,) = target.parts
    numbering = part.numbering
    if average:
        if not point_values(numbering.element):
            raise SponError(f"a mean of several values needs a Lagrange space, not {target.name}")
        return _averaged(target, part, source, where)
    if not point_values(numbering.element) and part.block_size > 1:
        return _blocked(target, part, source, where)
    functional, points = functionals(target)
    values = evaluation(source, points if where is None else where(points.cells, points.X))
    return values if functional is None else _clean(functional @ values)


def interpolate(target: CanonicalSpace, function: Any) -> Floats:
    """Interpolate a function of points, the same on every rank.

    Args:
        target: not mixed; take `part(i)` of a mixed space.
        function: points (3, n) ↦ values (n,) or (components, n), as for `dolfinx.fem.Function.interpolate`.

    Returns:
        (DoFs,) in canonical order.

    Raises:
        SponError: values of another shape.
    """
    geometry, c = target.mesh.geometry, target.value_size
    (part,) = target.parts
    scalar = target.scalar() if part.block_size > 1 else target
    functional, where = functionals(scalar)
    x = geometry.points(where.cells, where.X)
    values = np.asarray(function(np.pad(x, ((0, 0), (0, 3 - x.shape[1]))).T), dtype=np.float64)
    if values.size == c * len(x) and (values.ndim == 2 or c == 1):
        values = values.reshape(c, len(x))
    elif values.shape in ((), (1,)) and c == 1:
        values = np.full((1, len(x)), values.reshape(()))
    else:
        raise SponError(f"the function returned shape {values.shape}; allowed: {(c, len(x))}")
    if part.block_size > 1:
        columns = values.T if functional is None else functional @ values.T
        return np.asarray(columns).ravel()
    flat = values.T.ravel()
    return flat if functional is None else functional @ flat


def _averaged(target: CanonicalSpace, part: Part, source: CanonicalSpace, where: Any) -> sp.csr_array:
    numbering = part.numbering
    points = Location(*target.mesh.geometry.everywhere(np.array(numbering.element.points)))
    values = evaluation(source, points if where is None else where(points.cells, points.X))
    weights = nodal_mass(target.mesh.geometry, numbering)
    nodes = numbering.dofmap.ravel()
    total = np.bincount(nodes, weights.ravel(), minlength=numbering.size)
    mean = (weights.ravel() / total[nodes], (nodes, np.arange(len(nodes))))
    mean = sp.csr_array(mean, shape=(numbering.size, len(nodes)))
    return sp.csr_array(sp.kron(mean, sp.eye_array(target.value_size)) @ values)


def nodal_mass(geometry: Geometry, numbering: Numbering) -> Floats:
    """Return ∫_K φ_i² for each cell K and basis function i of a scalar element, (cells, DoFs)."""
    element = numbering.element
    kind = element.cell_type
    X, weights = basix.make_quadrature(kind, 2 * element.embedded_superdegree)
    phi = element.tabulate(0, X)[0, :, :, 0]
    cells, points = geometry.everywhere(X)
    J = np.abs(np.linalg.det(geometry.jacobians(cells, points))).reshape(-1, len(X))
    return np.einsum("cq,q,qi->ci", J, weights, phi**2)


def _blocked(target: CanonicalSpace, part: Part, source: CanonicalSpace, where: Any) -> sp.csr_array:
    """Interpolate component by component, for blocked elements whose DoFs are moments."""
    if len(source.parts) != 1 or source.parts[0].block_size != part.block_size:
        raise SponError(f"cannot interpolate {source.name} into {target.name}")
    one = interpolation(target.scalar(), source.scalar(), where)
    return sp.csr_array(sp.kron(one, sp.eye_array(part.block_size)))


def functionals(space: CanonicalSpace) -> tuple[sp.csr_array | None, Location]:
    """Return the DoFs of a space as functionals of values at points.

    Args:
        space: not mixed; blocked for point values alone.

    Returns:
        (DoFs, points · components), None where DoF i is the value at point i, and the points.
    """
    (part,) = space.parts
    numbering, element = part.numbering, part.numbering.element
    points = np.array(element.points)
    cells, local = numbering.owners()
    if point_values(element):
        return None, Location(cells, points[local])
    geometry = space.mesh.geometry
    q, c = len(points), int(element.value_size)
    moments = np.array(element.interpolation_matrix).reshape(element.dim, c, q)
    everywhere = Location(*geometry.everywhere(points))
    m = len(space.mesh.arrays.cells)
    rows = np.broadcast_to(moments[None], (m, *moments.shape))
    turned = numbering.entity_blocks()
    if turned:
        rows = rows.copy()
    for dofs, blocks in turned:  # c = T⁻ᵀ ĉ
        inverse = np.linalg.inv(blocks).transpose(0, 2, 1)
        rows[:, dofs] = np.einsum("mij,mjcq->micq", inverse, rows[:, dofs])
    weights = rows[cells, local]  # (DoFs, component, point)
    pull = _pull_back(geometry, element, everywhere)
    if pull is not None:
        weights = np.einsum("nbq,nqbd->ndq", weights, pull.reshape(m, q, c, c)[cells])
    columns = (cells[:, None, None] * q + np.arange(q)) * c + np.arange(c)[:, None]
    row = np.broadcast_to(np.arange(len(cells))[:, None, None], columns.shape)
    kept = weights != 0
    shape = (len(cells), m * q * c)
    return sp.csr_array((weights[kept], (row[kept], columns[kept])), shape=shape), everywhere


def _clean(matrix: sp.csr_array) -> sp.csr_array:
    """Drop entries that are round-off."""
    out = sp.csr_array(matrix)
    out.data[np.abs(out.data) < 1e-13 * np.abs(out.data).max(initial=0.0)] = 0.0
    out.eliminate_zeros()
    out.sort_indices()
    return out


def reference_map(target: Numbering, source: Numbering, matrix: Floats) -> sp.csr_array:
    """Return the global matrix of a map that is the same matrix on every reference cell.

    Args:
        target: elements of the result.
        source: elements of the argument.
        matrix: (DoFs per cell of target, DoFs per cell of source) between reference coefficients.

    Returns:
        (DoFs of target, DoFs of source). No geometry enters: integers stay integers.
    """
    matrix = np.where(np.abs(matrix) < 1e-13 * np.abs(matrix).max(), 0.0, matrix)
    m = len(target.dofmap)
    local = np.broadcast_to(matrix[None], (m, *matrix.shape))
    left, right = target.entity_blocks(), source.entity_blocks()
    if left or right:
        local = local.copy()
    for dofs, blocks in left:
        inverse = np.linalg.inv(blocks).transpose(0, 2, 1)
        local[:, dofs] = np.einsum("mij,mjk->mik", inverse, local[:, dofs])
    for dofs, blocks in right:
        local[:, :, dofs] = np.einsum("mik,mjk->mij", local[:, :, dofs], blocks)
    cells, where = target.owners()
    values = local[cells, where]
    columns = source.dofmap[cells]
    rows = np.broadcast_to(np.arange(target.size)[:, None], columns.shape)
    kept = values != 0
    return _clean(sp.csr_array((values[kept], (rows[kept], columns[kept])), shape=(target.size, source.size)))
