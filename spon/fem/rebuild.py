"""From the arrays of a discretisation back to a mesh and spaces on it."""

from __future__ import annotations

import re

import basix.ufl
import numpy as np
import numpy.typing as npt
from mpi4py import MPI

from spon.constraint import Constraint
from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.fem.arrays import MeshArrays
from spon.fem.boundary import carried
from spon.fem.decode import point_values
from spon.fem.mesh import TaggedMesh
from spon.fem.resolution import Resampling
from spon.fem.spaces import CanonicalSpace

__all__ = ["Elsewhere", "rebuilt_mesh", "rebuilt_space"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def rebuilt_mesh(d: Discretisation, comm: MPI.Comm = MPI.COMM_SELF) -> TaggedMesh:
    """Return the finest mesh of a discretisation, in the same order. Collective over `comm`.

    Args:
        d: made from it.
        comm: for the mesh.
    """
    level = d.levels[0]
    points, cells = (level.points, level.cells) if level.mesh is None else level.mesh
    names = {name: k + 1 for k, name in enumerate(d.boundaries)}
    facets = [np.asarray(f) for f in d.boundaries.values()]
    if level.mesh is not None:  # facets have the numbers of nodes, which count the vertices first
        corners = {"triangle": 3, "quadrilateral": 4, "tetrahedron": 4, "hexahedron": 8}
        count = corners[level.reference.cell_type]
        point = np.zeros(int(level.cells[:, :count].max()) + 1, dtype=np.int64)
        point[level.cells[:, :count]] = cells[:, :count]
        facets = [point[f] for f in facets]
    width = facets[0].shape[1] if facets else len(points[0])
    arrays = MeshArrays(
        points=np.asarray(points),
        cells=np.asarray(cells),
        cell_type=level.reference.cell_type,
        cell_tags=np.ones(len(cells), dtype=np.int32),
        facets=np.concatenate(facets) if facets else np.empty((0, width), dtype=np.int64),
        facet_tags=np.repeat(np.arange(1, len(facets) + 1, dtype=np.int32), [len(f) for f in facets]),
        cell_names={"domain": 1},
        facet_names=names,
        source="the training mesh",
    )
    return TaggedMesh(arrays, comm)


def rebuilt_space(mesh: TaggedMesh, element: str) -> CanonicalSpace:
    """Return a Lagrange or DG space on a mesh from its element in words.

    Args:
        mesh: of the space.
        element: such as "P2 triangle x 2"; the kind of cell is that of the mesh.

    Raises:
        SponError: another element.
    """
    found = re.fullmatch(r"(D?)P(\d+) (\w+)(?: x (\d+))?", element)
    if found is None:
        raise SponError(f"cannot make the space {element} again; allowed: Lagrange or DG, scalar or vector")
    jumps, degree, _, components = found.groups()
    shape = (int(components),) if components else None
    kind = mesh.arrays.cell_type
    family = "DG" if jumps else "Lagrange"
    return CanonicalSpace(mesh, basix.ufl.element(family, kind, int(degree), shape=shape))


class Elsewhere:
    """Functions of a discretisation on another mesh of the same geometry, with their boundary values.

    Interpolates (see `Resampling`). On each named boundary where components of the output are prescribed,
    these take the value that the function has at the nearest point of that boundary of the training mesh:
    curved boundaries are cut short differently by different meshes.

    Args:
        d: of the functions.
        mesh: of the result.

    Attributes:
        space: of the result.

    Raises:
        SponError: an element other than Lagrange or DG, a constraint that does more than prescribe values, a
            boundary that the mesh does not have, points too far outside.
    """

    def __init__(self, d: Discretisation, mesh: TaggedMesh) -> None:
        if not d.constraint.prescribes:
            raise SponError(
                "cannot move functions with ties or potentials to another mesh; allowed: prescribed values"
            )
        self._source = rebuilt_mesh(d, mesh.comm)
        self._from = rebuilt_space(self._source, d.output.element)
        self.space = rebuilt_space(mesh, d.output.element)
        width = d.output.components
        fixed = np.zeros(self.space.size, dtype=bool)
        self._held: list[tuple[Integers, Integers, Floats]] = []
        for name, dofs in d.boundary_dofs.items():
            held = d.constraint.fixed[dofs].reshape(-1, width).all(axis=0)
            if not held.any():
                continue
            there = carried(self.space, name)[:, held]
            nodes = self.space.nodes[there[:, 0] // width]
            on = nearest_on(self._source.arrays.points[self._facets(name)], nodes)
            fixed[there] = True
            self._held.append((there, np.flatnonzero(held), on))
        self.dofs = np.flatnonzero(fixed)
        constraint = Constraint.none(self.space.size)
        if len(self.dofs):
            constraint = constraint.prescribe(self.dofs, np.zeros(len(self.dofs)))
        self._resampling = Resampling(mesh, self.space, self._source, self._from, constraint)

    def _facets(self, name: str) -> Integers:
        arrays = self._source.arrays
        return np.asarray(arrays.facets[arrays.facet_tags == arrays.facet_names[name]])

    def __call__(self, values: Floats) -> tuple[Floats, Floats]:
        """Return functions on the other mesh, and their prescribed values there.

        Args:
            values: (samples, DoFs) admissible.

        Returns:
            (samples, DoFs) and (samples, prescribed DoFs), in the order of `dofs`.
        """
        shift = np.zeros((len(values), self.space.size))
        for there, components, points in self._held:
            trace = point_values(self._from, values, points, outside="nearest")
            shift[:, there] = trace[:, :, components]
        return self._resampling(values, shift), shift[:, self.dofs]


def nearest_on(facets: Floats, points: Floats) -> Floats:
    """Return the nearest point of any facet to each point.

    Args:
        facets: (facets, corners, gdim), straight; quadrilaterals in tensor order.
        points: (n, gdim).
    """
    if facets.shape[1] == 4:
        facets = np.concatenate([facets[:, [0, 1, 3]], facets[:, [0, 3, 2]]])
    out = np.empty_like(points)
    for i in range(len(points)):  # one after the other: all pairs at once may be many
        x = points[i]
        found = _on_simplices(facets, x)
        out[i] = found[np.linalg.norm(found - x, axis=1).argmin()]
    return out


def _on_simplices(facets: Floats, x: Floats) -> Floats:
    """Return the nearest points to x on segments or triangles; candidates, several for a triangle."""
    edges = facets if facets.shape[1] == 2 else np.concatenate([facets[:, [a, b]] for a, b in _EDGES])
    start, along = edges[:, 0], edges[:, 1] - edges[:, 0]
    t = np.clip(((x - start) * along).sum(axis=1) / (along**2).sum(axis=1), 0.0, 1.0)
    found = start + t[:, None] * along
    if facets.shape[1] == 2:
        return found
    frame = np.stack([facets[:, 1] - facets[:, 0], facets[:, 2] - facets[:, 0]], axis=2)
    st = np.linalg.solve(
        frame.transpose(0, 2, 1) @ frame, (frame.transpose(0, 2, 1) @ (x - facets[:, 0])[:, :, None])
    )[:, :, 0]
    inside = (st >= 0).all(axis=1) & (st.sum(axis=1) <= 1)
    return np.concatenate([found, facets[inside, 0] + (frame[inside] @ st[inside, :, None])[:, :, 0]])


_EDGES = ((0, 1), (1, 2), (2, 0))
