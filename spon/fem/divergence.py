"""Divergence-free fields as the curl of a stream function or a vector potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import basix
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.boundary import canonical_space
from spon.fem.mesh import TaggedMesh
from spon.fem.numbering import Numbering
from spon.fem.topology import Topology
from spon.fem.transfer import reference_map

__all__ = ["curl", "divergence_free", "gradient", "potential"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def divergence_free(
    mesh: TaggedMesh, space: Any, impermeable: Sequence[str] = (), part: int = 0
) -> Constraint:
    """Write u in an H(div) space as the curl of a potential, so that div u = 0 pointwise.

    In the plane u = (∂ψ/∂y, −∂ψ/∂x) with a continuous Lagrange stream function ψ of degree k for RT_k
    and k + 1 for BDM_k (RT_k on quadrilaterals); in space u = curl A with A in the Nédélec space of the
    first kind of the same degrees. The map is the same matrix on each reference cell and integer
    for the lowest degree, so that no geometry and no round-off enter.

    On impermeable boundaries u·n = 0 exactly: the normal component of H(div) is set strongly. The
    tangential component is not a DoF; no-slip has to be imposed weakly, or learned.

    In the plane ψ is constant on each connected piece of the impermeable boundary: zero on the first
    one and a free constant on each other one, one for every hole, which is the flux between them. Without
    impermeable boundaries one value of ψ is fixed. In space A×n = 0 on impermeable
    boundaries, and a gauge leaves each field u a single A: A is dropped on a spanning tree of the edges,
    and on as many DoFs of edges, faces and cells as there are gradients there (tree-cotree
    gauge: Albanese & Rubinacci 1988, IEE Proc. A 135; higher degrees by elimination on each entity).
    Where impermeable boundaries in space have handles or a rim (a pipe), fields with a net flux through
    these are no curl of such an A: carry that flux by the shift, `constraint.with_shift(u_g)`.

    Args:
        mesh: mesh with named boundaries.
        space: `dolfinx.fem.FunctionSpace` RT or BDM, or a mixed one; or a `CanonicalSpace`.
        impermeable: names of boundaries where u·n = 0.
        part: member of a mixed space that is divergence-free; the others stay free.

    Returns:
        Z with independent columns. Its latent DoFs are those of the potential (and of the other members).

    Raises:
        SponError: not RT or BDM; an unknown boundary.
    """
    whole = canonical_space(mesh, space)
    numbering = whole.parts[part].numbering
    element = potential(numbering.element)
    inner = mesh.numbering(element)
    C = curl(numbering, inner)
    for name in impermeable:
        mesh.tag(name)
    walls = [mesh.topology.facets(name) for name in impermeable]
    facets = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *walls]))
    find = _stream_function if mesh.arrays.tdim == 2 else _gauged
    S, gauge = find(inner, facets)
    rest = [sp.csr_array(sp.eye_array(p.size)) for p in whole.parts]
    outer = sp.block_diag([C if i == part else one for i, one in enumerate(rest)])
    selection = sp.block_diag([S if i == part else one for i, one in enumerate(rest)])
    nothing = [sp.csr_array((p.size, 0)) for p in whole.parts]
    left_out = sp.block_diag([gauge if i == part else none for i, none in enumerate(nothing)])
    Z = sp.csr_array(outer @ selection)
    Z.sort_indices()
    shift = np.zeros(whole.size)
    return Constraint(Z, shift, sp.csr_array(selection), sp.csr_array(left_out), (part,))


def potential(element: Any) -> Any:
    """Return the basix element whose curl is the divergence-free part of an H(div) element.

    Raises:
        SponError: not RT or BDM.
    """
    family, kind, degree = element.family, element.cell_type, element.degree
    simplex = kind in (basix.CellType.triangle, basix.CellType.tetrahedron)
    if element.discontinuous or not (
        family == basix.ElementFamily.RT or (family == basix.ElementFamily.BDM and simplex)
    ):
        raise SponError(
            f"divergence-free fields need RT, or BDM on simplices; found {family.name}{degree} {kind.name}"
        )
    degree = degree if family == basix.ElementFamily.RT else degree + 1
    if len(basix.topology(kind)) == 3:
        return basix.create_element(basix.ElementFamily.P, kind, degree, basix.LagrangeVariant.gll_warped)
    return basix.create_element(basix.ElementFamily.N1E, kind, degree, basix.LagrangeVariant.legendre)


def curl(target: Numbering, source: Numbering) -> sp.csr_array:
    """Return the curl as a map of DoFs: (DoFs of RT or BDM, DoFs of the potential)."""
    element = target.element
    tables = source.element.tabulate(1, np.array(element.points))[1:]  # (direction, point, DoF, component)
    if len(tables) == 2:
        values = np.stack([tables[1, :, :, 0], -tables[0, :, :, 0]])
    else:
        d = tables.transpose(0, 3, 1, 2)  # (direction, component, point, DoF)
        values = np.stack([d[1, 2] - d[2, 1], d[2, 0] - d[0, 2], d[0, 1] - d[1, 0]])
    flat = values.reshape(-1, values.shape[-1])
    return reference_map(target, source, np.array(element.interpolation_matrix) @ flat)


def gradient(target: Numbering, source: Numbering) -> sp.csr_array:
    """Return the gradient as a map of DoFs: (DoFs of a Nédélec element, DoFs of Lagrange)."""
    element = target.element
    values = source.element.tabulate(1, np.array(element.points))[1:, :, :, 0]
    flat = values.reshape(-1, values.shape[-1])
    return reference_map(target, source, np.array(element.interpolation_matrix) @ flat)


def _stream_function(inner: Numbering, facets: Integers) -> tuple[sp.csr_array, sp.csr_array]:
    """Tie ψ on each piece of the walls; drop one of them, or one value, in each piece of the mesh.

    Returns:
        S, and what was dropped though ψ is not prescribed there.
    """
    topology = inner.topology
    regions = _pieces(topology, np.arange(len(topology.vertex_points)), topology.cell_vertices)
    walls = topology.entities(1)[0][facets]
    pieces = _pieces(topology, np.unique(walls), walls)  # by vertex, -1 inside
    column = np.full(inner.size, -1, dtype=np.int64)  # class of each DoF
    on_wall = inner.on_facets(facets)
    edge = inner.offsets[1]
    width = len(inner.orientation.entity_dofs[1][0])
    is_vertex = on_wall < edge
    label = np.empty_like(on_wall)
    label[is_vertex] = pieces[on_wall[is_vertex]]
    if width:
        ends = topology.entities(1)[0][(on_wall[~is_vertex] - edge) // width]
        label[~is_vertex] = pieces[ends[:, 0]]
    column[on_wall] = label
    tied = int(pieces.max(initial=-1)) + 1
    inside = np.flatnonzero(column < 0)
    column[inside] = tied + np.arange(len(inside))
    first = np.array([np.flatnonzero(pieces == k)[0] for k in range(tied)], dtype=np.int64)
    dropped, pinned = [], []
    for region in range(int(regions.max()) + 1):
        there = np.flatnonzero(regions[first] == region)
        if len(there):
            dropped.append(there[0])
        else:
            pinned.append(column[np.flatnonzero(regions == region)[0]])
    S = sp.csr_array(
        (np.ones(inner.size), (np.arange(inner.size), column)), shape=(inner.size, tied + len(inside))
    )
    kept = np.setdiff1d(np.arange(S.shape[1]), [*dropped, *pinned])
    return sp.csr_array(S[:, kept]), sp.csr_array(S[:, np.array(pinned, dtype=np.int64)])


def _pieces(topology: Topology, vertices: Integers, members: Integers) -> Integers:
    """Number the connected pieces of a part of the mesh, by vertex; -1 for other vertices."""
    n = len(topology.vertex_points)
    i = np.repeat(members[:, 0], members.shape[1] - 1)
    graph = sp.coo_array((np.ones(len(i)), (i, members[:, 1:].ravel())), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    out = np.full(n, -1, dtype=np.int64)
    out[vertices] = np.unique(labels[vertices], return_inverse=True)[1].reshape(-1)
    return out


def _gauged(inner: Numbering, facets: Integers) -> tuple[sp.csr_array, sp.csr_array]:
    """Drop A on the walls, on a tree, and wherever a gradient could be subtracted.

    Returns:
        S, and what was dropped inside.
    """
    topology = inner.topology
    element = inner.element
    lagrange = basix.create_element(
        basix.ElementFamily.P, element.cell_type, element.degree, basix.LagrangeVariant.gll_warped
    )
    scalar = Numbering(topology, lagrange)
    G = gradient(inner, scalar)
    dropped = np.zeros(inner.size, dtype=bool)
    walls = inner.on_facets(facets)
    dropped[walls] = True
    tree = _tree(topology, facets)
    dropped[inner.on_entities(1, tree)] = True
    for dim in (1, 2, 3):
        potentials = len(scalar.orientation.entity_dofs[dim][0])
        if potentials == 0:
            continue
        count = len(topology.entities(dim)[0])
        skipped = np.zeros(count, dtype=bool)
        if dim < 3:
            skipped[topology.closure(facets, dim)] = True
        if dim == 1:
            skipped[tree] = True
        numbers = np.flatnonzero(~skipped)
        rows = inner.on_entities(dim, numbers).reshape(len(numbers), -1)
        columns = scalar.on_entities(dim, numbers).reshape(len(numbers), -1)
        chosen = _independent_rows(_dense_blocks(G, rows, columns))
        dropped[np.take_along_axis(rows, chosen, axis=1)] = True
    kept = np.flatnonzero(~dropped)
    dropped[walls] = False
    return _columns(inner.size, kept), _columns(inner.size, np.flatnonzero(dropped))


def _columns(size: int, chosen: Integers) -> sp.csr_array:
    """Columns of the identity."""
    entries = (np.ones(len(chosen)), (chosen, np.arange(len(chosen))))
    return sp.csr_array(entries, shape=(size, len(chosen)))


def _tree(topology: Topology, facets: Integers) -> Integers:
    """Return the edges of a spanning tree, each connected piece of the walls taken as one vertex."""
    edges, _ = topology.entities(1)
    walls = topology.entities(2)[0][facets]
    n = len(topology.vertex_points)
    node = np.arange(n)
    if len(walls):
        pieces = _pieces(topology, np.unique(walls), walls)
        on = pieces >= 0
        node[on] = n + pieces[on]
    ends = np.sort(node[edges], axis=1)
    between = np.flatnonzero(ends[:, 0] != ends[:, 1])
    _, first = np.unique(ends[between] @ [2 * n, 1], return_index=True)
    chosen = between[first]
    pairs = ends[chosen].astype(np.int32).T  # scipy's graphs want 32-bit numbers
    weights = (chosen + 1.0, (pairs[0], pairs[1]))
    tree = minimum_spanning_tree(sp.csr_array(weights, shape=(2 * n, 2 * n)))
    return np.sort(np.rint(tree.data).astype(np.int64) - 1)


def _dense_blocks(matrix: sp.csr_array, rows: Integers, columns: Integers) -> Floats:
    """Return the blocks of a sparse matrix on groups of rows and columns, (groups, rows, columns)."""
    groups, width = columns.shape
    owner = np.full(matrix.shape[1], -1, dtype=np.int64)
    owner[columns.ravel()] = np.arange(groups * width)
    picked = sp.coo_array(matrix[rows.ravel()])
    position = owner[picked.col]
    mine = (position >= 0) & (position // width == picked.row // rows.shape[1])
    out = np.zeros((groups, rows.shape[1], width))
    local = picked.row[mine] % rows.shape[1], position[mine] % width
    out[picked.row[mine] // rows.shape[1], local[0], local[1]] = picked.data[mine]
    return out


def _independent_rows(blocks: Floats) -> Integers:
    """Choose as many independent rows of each block as it has columns, by elimination with pivoting."""
    work, n = blocks.copy(), blocks.shape[2]
    groups = np.arange(len(work))
    chosen = np.empty((len(work), n), dtype=np.int64)
    for column in range(n):
        pivot = np.abs(work[:, :, column]).argmax(axis=1)
        chosen[:, column] = pivot
        row = work[groups, pivot]
        factors = work[:, :, column] / row[:, column, None]
        work -= factors[:, :, None] * row[:, None, :]
        work[groups, pivot] = 0.0
    return chosen
