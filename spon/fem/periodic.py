"""Periodic spaces: DoFs of matching faces tied together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.boundary import canonical_space
from spon.fem.mesh import TaggedMesh
from spon.fem.numbering import Numbering
from spon.fem.topology import Topology
from spon.fem.transfer import reference_map

__all__ = ["Ties", "periodic", "tie"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_TOLERANCE = 1e-8  # of the extent of the mesh


def periodic(
    mesh: TaggedMesh,
    space: Any,
    pairs: Mapping[str, str] | Sequence[tuple[str, str]],
    parts: Sequence[int] | None = None,
) -> Constraint:
    """Tie functions on pairs of named boundaries that are translations of each other.

    Edges and corners common to several pairs are tied to all their images. Orientations are
    followed, so that normal and tangential components of H(div) and H(curl) spaces are tied too.

    Args:
        mesh: mesh with named boundaries whose facets match under the translation.
        space: `dolfinx.fem.FunctionSpace` on it, or a `CanonicalSpace`.
        pairs: (boundary, its image), any number.
        parts: members of a mixed space that are periodic; default: all.

    Returns:
        Z with a column for each class of tied DoFs, u_g = 0.

    Raises:
        SponError: unknown boundaries; faces that do not match (where, by how much); one cell between
            the two faces; a discontinuous space, which has nothing to tie.
    """
    whole = canonical_space(mesh, space)
    ties = tie(mesh, pairs)
    blocks = []
    for number, part in enumerate(whole.parts):
        if parts is not None and number not in parts:
            blocks.append(sp.eye_array(part.size))
            continue
        Z = ties.map(part.numbering, ties.numbering(part.numbering.element))
        blocks.append(sp.kron(Z, sp.eye_array(part.block_size), format="csr"))  # BSR keeps zeros
    Z = sp.csr_array(sp.block_diag(blocks))
    if len(pairs) and Z.shape[0] == Z.shape[1]:
        raise SponError(f"{whole.name} has no DoFs on the periodic boundaries; allowed: elements that have")
    return Constraint(Z, np.zeros(whole.size))


@dataclass(frozen=True)
class Ties:
    """The mesh that results when periodic faces are glued together.

    Args:
        topology: of the mesh itself.
        labels: by dimension, the number of each entity in the glued mesh, the same for tied ones.
        images: (pairs, vertices) the vertex that a vertex is tied to by each pair, -1 for none.
        translations: (pairs, gdim).
    """

    topology: Topology
    labels: dict[int, Integers]
    images: Integers
    translations: Floats

    def numbering(self, element: Any) -> Numbering:
        """Return the DoFs of an element on the glued mesh."""
        return Numbering(self.topology, element, self.labels[0], self.labels)

    def map(self, numbering: Numbering, glued: Numbering) -> sp.csr_array:
        """Return the DoFs on the mesh itself of functions on the glued one, (DoFs, DoFs of glued)."""
        return reference_map(numbering, glued, np.eye(numbering.element.dim))


def tie(mesh: TaggedMesh, pairs: Mapping[str, str] | Sequence[tuple[str, str]]) -> Ties:
    """Glue pairs of named boundaries that are translations of each other.

    Args:
        mesh: mesh with named boundaries whose facets match under the translation.
        pairs: (boundary, its image), any number, also none.

    Raises:
        SponError: as `periodic`.
    """
    pairs = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
    topology = mesh.topology
    found = [_vertex_images(mesh, a, b) for a, b in pairs]
    images = np.array([image for image, _ in found], dtype=np.int64)
    images = images.reshape(len(pairs), len(topology.vertex_points))
    translations = np.array([t for _, t in found]).reshape(len(pairs), mesh.arrays.gdim)
    labels: dict[int, Integers] = {}
    for dim in range(topology.tdim):
        entities, _ = topology.entities(dim)
        ties = []
        for (a, b), image in zip(pairs, images, strict=True):
            here = topology.closure(topology.facets(a), dim)
            there = topology.find(dim, image[entities[here]])
            if (there < 0).any():
                raise SponError(
                    f"periodic boundaries '{a}' and '{b}' of {mesh.arrays.source} have matching points "
                    f"but {np.count_nonzero(there < 0)} edges or faces without an image"
                )
            ties.append(np.stack([here, there]))
        i, j = np.concatenate([np.empty((2, 0), dtype=np.int64), *ties], axis=1)
        graph = sp.coo_array((np.ones(len(i)), (i, j)), shape=(len(entities), len(entities)))
        labels[dim] = connected_components(graph, directed=False)[1].astype(np.int64)
    around = np.sort(labels[0][topology.cell_vertices], axis=1)
    if (around[:, 1:] == around[:, :-1]).any():
        raise SponError(
            f"{mesh.arrays.source}: a cell reaches from a periodic boundary to its image; allowed: two or "
            "more cells between them"
        )
    return Ties(topology, labels, images, translations)


def _vertex_images(mesh: TaggedMesh, name: str, image: str) -> tuple[Integers, Floats]:
    """Return the vertex that each vertex of a boundary is taken to, -1 elsewhere, and the translation."""
    topology = mesh.topology
    for boundary in (name, image):
        mesh.tag(boundary)
    here, there = (topology.closure(topology.facets(b), 0) for b in (name, image))
    points = mesh.arrays.points[topology.vertex_points]
    extent = float(np.ptp(points, axis=0).max())
    translation = points[there].min(axis=0) - points[here].min(axis=0)
    distance, nearest = cKDTree(points[there]).query(points[here] + translation)
    bad = distance > _TOLERANCE * extent
    if bad.any() or len(here) != len(there):
        found = f"{len(here)} and {len(there)} points"
        if bad.any():
            worst = int(distance.argmax())
            place = tuple(float(round(x, 6)) for x in points[here][worst])
            found = f"{np.count_nonzero(bad)} points without an image, "
            found += f"the worst {place}, by {distance[worst]:.3g}"
        shown = tuple(float(round(x, 6)) for x in translation)
        raise SponError(
            f"periodic boundaries '{name}' and '{image}' of {mesh.arrays.source} do not match under the "
            f"translation {shown}: {found}; allowed: {_TOLERANCE:g} of the extent {extent:g}"
        )
    out = np.full(len(points), -1, dtype=np.int64)
    out[here] = there[nearest]
    return out, translation
