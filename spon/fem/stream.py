"""Stream functions in the plane: constant along walls, with a jump across periodic boundaries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from spon.errors import SponError
from spon.fem.numbering import Numbering
from spon.fem.periodic import Ties

__all__ = ["check_directions", "mean_flows", "pieces", "stream_functions"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def stream_functions(inner: Numbering, walls: Integers, ties: Ties) -> tuple[sp.csr_array, sp.csr_array]:
    """Return single-valued ψ: tied on each piece of the walls, one of these or one value zero.

    Args:
        inner: DoFs of the Lagrange space of ψ.
        walls: facets on which ψ is constant.
        ties: of the periodic boundaries; they may be none.

    Returns:
        (DoFs, free DoFs), one entry in a row at most; and the values that were set to zero though no
        wall prescribes them, (DoFs, n).
    """
    vertex, edge = ties.labels[0], ties.labels[1]
    glued = ties.numbering(inner.element)
    n = len(vertex)
    edges, _ = ties.topology.entities(1)
    regions = pieces(n, vertex, vertex[ties.topology.cell_vertices])
    ends = vertex[edges[walls]]
    piece = pieces(n, ends.ravel(), ends)
    tied = int(piece.max(initial=-1)) + 1
    column = np.full(glued.size, -1, dtype=np.int64)  # class of each DoF
    corners = np.unique(ends)
    column[glued.on_entities(0, corners)] = piece[corners]
    sides, first = np.unique(edge[walls], return_index=True)
    width = len(inner.orientation.entity_dofs[1][0])
    column[glued.on_entities(1, sides)] = np.repeat(piece[ends[first, 0]], width)
    inside = np.flatnonzero(column < 0)
    column[inside] = tied + np.arange(len(inside))
    start = np.array([np.flatnonzero(piece == k)[0] for k in range(tied)], dtype=np.int64)
    dropped, pinned = [], []
    for region in range(int(regions.max()) + 1):
        there = np.flatnonzero(regions[start] == region)
        if len(there):
            dropped.append(there[0])
        else:
            pinned.append(column[np.flatnonzero(regions == region)[0]])
    entries = (np.ones(glued.size), (np.arange(glued.size), column))
    S = sp.csr_array(entries, shape=(glued.size, tied + len(inside)))
    spread = ties.map(inner, glued)
    kept = np.setdiff1d(np.arange(S.shape[1]), [*dropped, *pinned])
    gauge = S[:, np.array(pinned, dtype=np.int64)]
    return sp.csr_array(spread @ S[:, kept]), sp.csr_array(spread @ gauge)


def mean_flows(inner: Numbering, walls: Integers, ties: Ties, points: Floats) -> sp.csr_array:
    """Return ψ with a jump from a periodic boundary to its image: the harmonic part.

    Without walls ψ is linear and its curl constant. A wall on which ψ is constant admits those jumps
    alone that add up to zero on each closed way along it: in a channel between walls there is none.
    The jump is the flux across a line from a point to its image.

    Args:
        inner: DoFs of the Lagrange space of ψ.
        walls: facets on which ψ is constant.
        ties: of the periodic boundaries.
        points: (DoFs, gdim) of ψ.

    Returns:
        (DoFs, independent jumps).

    Raises:
        SponError: pairs with the same translation; a mesh of several pieces.
    """
    d, topology = len(ties.translations), ties.topology
    if d == 0:
        return sp.csr_array((inner.size, 0))
    check_directions(ties)
    n = len(topology.vertex_points)
    psi = points @ np.linalg.pinv(ties.translations)
    classes = ties.map(inner, ties.numbering(inner.element)).indices
    first = np.unique(classes, return_index=True)[1][classes]
    psi = psi[first] + np.rint(psi - psi[first])  # the jump is 1 or 0 exactly
    closed = np.flatnonzero(np.isin(ties.labels[1], ties.labels[1][walls]))
    edges, _ = topology.entities(1)
    on = np.flatnonzero(np.isin(ties.labels[0], ties.labels[0][edges[walls].ravel()]))
    piece = pieces(n, on, edges[closed])
    value, jumps = _along_walls(piece, on, ties)
    psi[inner.on_entities(0, on)] = value[piece[on]]
    width = len(inner.orientation.entity_dofs[1][0])
    psi[inner.on_entities(1, closed)] = np.repeat(value[piece[edges[closed, 0]]], width, axis=0)
    return sp.csr_array(psi @ jumps)


def check_directions(ties: Ties) -> None:
    """Check that the mesh is connected and each direction has one pair of boundaries.

    Raises:
        SponError: pairs with the same translation; a mesh of several pieces.
    """
    topology, n = ties.topology, len(ties.labels[0])
    source = topology.arrays.source
    if pieces(n, np.arange(n), topology.cell_vertices).max() > 0:
        raise SponError(f"{source}: has several pieces; allowed for periodic divergence-free fields: one")
    size = np.abs(ties.translations).max()
    if np.linalg.matrix_rank(ties.translations, tol=1e-8 * size) < len(ties.translations):
        raise SponError(
            f"{source}: the translations {ties.translations.round(6).tolist()} of the periodic boundaries "
            "depend on each other; allowed: one boundary, under one name, for each direction"
        )


def _along_walls(piece: Integers, on: Integers, ties: Ties) -> tuple[Floats, Floats]:
    """Find one value of each jump for every piece of the walls, and the jumps that these admit.

    Returns:
        (pieces, pairs), and (pairs, admitted jumps).
    """
    d, count = len(ties.translations), int(piece.max(initial=-1)) + 1
    if count == 0:
        return np.empty((0, d)), np.eye(d)
    rows = []
    for number in range(d):
        image: Integers = np.asarray(ties.images[number])
        tied = on[image[on] >= 0]
        rows.append(np.stack([piece[tied], piece[image[tied]], np.full(len(tied), number)], axis=1))
    steps = np.unique(np.concatenate(rows), axis=0)
    here, there, pair = (steps[:, column] for column in range(3))
    difference = np.eye(count)[there] - np.eye(count)[here]
    jump = np.eye(d)[pair]
    value = np.linalg.lstsq(difference, jump, rcond=None)[0]
    contradiction = jump - difference @ value
    size, directions = np.linalg.eigh(contradiction.T @ contradiction)
    return value, directions[:, size < 1e-10]


def pieces(n: int, vertices: Integers, members: Integers) -> Integers:
    """Number the connected pieces of a part of the mesh.

    Args:
        n: number of vertices.
        vertices: of the part.
        members: (entities, vertices) that connect these.

    Returns:
        (n,) piece of each vertex; -1 for other vertices.
    """
    i = np.repeat(members[:, 0], members.shape[1] - 1)
    graph = sp.coo_array((np.ones(len(i)), (i, members[:, 1:].ravel())), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    out = np.full(n, -1, dtype=np.int64)
    out[vertices] = np.unique(labels[vertices], return_inverse=True)[1].reshape(-1)
    return out
