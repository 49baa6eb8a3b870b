"""Which node or cell of a mesh each node or cell of a file is, by coordinates."""

from __future__ import annotations

from spon.data.points import Match, match
from spon.errors import SponError
from spon.fem.arrays import MeshArrays
from spon.fem.mesh import TaggedMesh
from spon.fem.spaces import CanonicalSpace, lagrange_element

__all__ = ["match_cells", "match_nodes"]


def match_nodes(file: MeshArrays, mesh: TaggedMesh) -> Match:
    """Match the nodes of a file with those of a mesh; several may share one, as in discontinuous files.

    Nodes of second order on a mesh of first order are those of second-order Lagrange functions.

    Raises:
        SponError: a node of the file that is none of the mesh, or the other way round.
    """
    arrays = mesh.arrays
    wanted = arrays.points
    if file.degree < arrays.degree:
        wanted = arrays.points[mesh.topology.vertex_points]
    elif file.degree > arrays.degree:
        wanted = CanonicalSpace(mesh, lagrange_element(arrays.cell_type, file.degree)).nodes
    return match(file.points, wanted, file.source, arrays.source, "node")


def match_cells(file: MeshArrays, mesh: TaggedMesh) -> Match:
    """Match the cells of a file with those of a mesh by the mean of their corners.

    Raises:
        SponError: cells of another kind, or in other places.
    """
    arrays = mesh.arrays
    if file.cell_type != arrays.cell_type:
        raise SponError(
            f"{file.source} has cells of type {file.cell_type}, {arrays.source} {arrays.cell_type}"
        )
    return match(file.centroids, arrays.centroids, file.source, arrays.source, "cell")
