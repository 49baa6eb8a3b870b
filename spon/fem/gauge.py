"""Vector potentials in space, one for each divergence-free field: the tree-cotree gauge."""

from __future__ import annotations

from itertools import combinations

import basix
import basix.ufl
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from scipy.sparse.csgraph import minimum_spanning_tree

from spon.fem.mesh import TaggedMesh
from spon.fem.numbering import Numbering
from spon.fem.periodic import Ties
from spon.fem.spaces import CanonicalSpace
from spon.fem.stream import check_directions, pieces
from spon.fem.transfer import interpolate, reference_map

__all__ = ["gradient", "mean_potentials", "vector_potentials"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def gradient(target: Numbering, source: Numbering) -> sp.csr_array:
    """Return the gradient as a map of DoFs: (DoFs of a Nédélec element, DoFs of Lagrange)."""
    element = target.element
    values = source.element.tabulate(1, np.array(element.points))[1:, :, :, 0]
    flat = values.reshape(-1, values.shape[-1])
    return reference_map(target, source, np.array(element.interpolation_matrix) @ flat)


def vector_potentials(inner: Numbering, walls: Integers, ties: Ties) -> tuple[sp.csr_array, sp.csr_array]:
    """Drop A on the walls, on a tree, and wherever a gradient could be subtracted.

    On a periodic mesh the constant A are no gradients of periodic functions: one more edge is dropped
    for each direction, among those that close a way around the mesh.

    Args:
        inner: DoFs of the Nédélec space of A.
        walls: facets with A×n = 0.
        ties: of the periodic boundaries; they may be none.

    Returns:
        (DoFs, free DoFs), and what was dropped inside, where A is not prescribed, (DoFs, n).
    """
    topology, element = ties.topology, inner.element
    lagrange = basix.create_element(
        basix.ElementFamily.P, element.cell_type, element.degree, basix.LagrangeVariant.gll_warped
    )
    glued, scalar = ties.numbering(element), ties.numbering(lagrange)
    G = gradient(glued, scalar)
    dropped = np.zeros(glued.size, dtype=bool)
    on_walls = {dim: np.unique(ties.labels[dim][topology.closure(walls, dim)]) for dim in (0, 1, 2)}
    for dim in (1, 2):
        dropped[glued.on_entities(dim, on_walls[dim])] = True
    tree = _tree(ties, walls)
    dropped[glued.on_entities(1, tree)] = True
    for dim in (1, 2, 3):
        potentials = len(scalar.orientation.entity_dofs[dim][0])
        if potentials == 0:
            continue
        skipped = np.zeros(_count(ties, dim), dtype=bool)
        if dim < 3:
            skipped[on_walls[dim]] = True
        if dim == 1:
            skipped[tree] = True
        numbers = np.flatnonzero(~skipped)
        rows = glued.on_entities(dim, numbers).reshape(len(numbers), -1)
        columns = scalar.on_entities(dim, numbers).reshape(len(numbers), -1)
        chosen = _independent_rows(_dense_blocks(G, rows, columns))
        dropped[np.take_along_axis(rows, chosen, axis=1)] = True
    kept = np.flatnonzero(~dropped)
    for dim in (1, 2):
        dropped[glued.on_entities(dim, on_walls[dim])] = False
    spread = ties.map(inner, glued)
    gauge = _columns(glued.size, np.flatnonzero(dropped))
    return sp.csr_array(spread @ _columns(glued.size, kept)), sp.csr_array(spread @ gauge)


def _columns(size: int, chosen: Integers) -> sp.csr_array:
    """Return columns of the identity."""
    entries = (np.ones(len(chosen)), (chosen, np.arange(len(chosen))))
    return sp.csr_array(entries, shape=(size, len(chosen)))


def mean_potentials(mesh: TaggedMesh, inner: Numbering, ties: Ties) -> sp.csr_array:
    """Return A = (g_j·x) g_k for each two periodic directions: the harmonic part, a constant curl g_j×g_k.

    The g are dual to the translations, so that the flux through the parallelogram of t_j and t_k is 1.

    Args:
        mesh: with geometry.
        inner: DoFs of the Nédélec space of A.
        ties: of the periodic boundaries.

    Returns:
        (DoFs, pairs of directions).
    """
    space = CanonicalSpace(mesh, basix.ufl.wrap_element(inner.element))
    g = np.linalg.pinv(ties.translations) if len(ties.translations) else np.empty((3, 0))
    directions = list(combinations(range(g.shape[1]), 2))
    fields = np.zeros((inner.size, len(directions)))
    for column, (j, k) in enumerate(directions):
        fields[:, column] = interpolate(space, lambda x, j=j, k=k: np.outer(g[:, k], g[:, j] @ x))
    return sp.csr_array(fields)


def _count(ties: Ties, dim: int) -> int:
    """Return the number of entities of the glued mesh."""
    if dim == 3:
        return len(ties.topology.cell_vertices)
    return int(ties.labels[dim].max()) + 1


def _tree(ties: Ties, walls: Integers) -> Integers:
    """Return edges that kill all gradients and constants: a spanning tree, and one for each direction.

    Each connected piece of the walls counts as one vertex of the tree.
    """
    topology, vertex = ties.topology, ties.labels[0]
    first = np.unique(ties.labels[1], return_index=True)[1]  # an edge of the mesh for each glued one
    edges = topology.entities(1)[0][first]
    n = len(vertex)
    node = np.arange(n)
    if len(walls):
        members = vertex[topology.entities(2)[0][walls]]
        piece = pieces(n, np.unique(members), members)
        on = piece >= 0
        node[on] = n + piece[on]
    directed = node[vertex[edges]]
    ends = np.sort(directed, axis=1)
    between = np.flatnonzero(ends[:, 0] != ends[:, 1])
    _, chosen = np.unique(ends[between] @ [2 * n, 1], return_index=True)
    chosen = between[chosen]
    pairs = ends[chosen].astype(np.int32).T  # scipy's graphs want 32-bit numbers
    weights = (chosen + 1.0, (pairs[0], pairs[1]))
    spanning = minimum_spanning_tree(sp.csr_array(weights, shape=(2 * n, 2 * n)))
    tree = np.sort(np.rint(spanning.data).astype(np.int64) - 1)
    if len(ties.translations) == 0:
        return tree
    check_directions(ties)
    return np.union1d(tree, _around(ties, edges, directed, tree))


def _around(ties: Ties, edges: Integers, directed: Integers, tree: Integers) -> Integers:
    """Find an edge for each direction whose way back through the tree goes around the mesh."""
    topology = ties.topology
    points = topology.arrays.points[topology.vertex_points]
    along = (points[edges[:, 1]] - points[edges[:, 0]]) @ np.linalg.pinv(ties.translations)
    used, ends = np.unique(directed, return_inverse=True)
    ends = ends.reshape(directed.shape)
    rows = np.arange(len(tree))
    entries = (np.repeat([-1.0, 1.0], len(tree)), (np.tile(rows, 2), ends[tree].T.ravel()))
    incidence = sp.csc_array(entries, shape=(len(tree), len(used)))
    position = np.zeros((len(used), along.shape[1]))
    position[1:] = spla.splu(sp.csc_array(incidence[:, 1:])).solve(along[tree])
    windings = np.rint(along - (position[ends[:, 1]] - position[ends[:, 0]]))
    return np.asarray(_independent_rows(windings[None])[0])


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
