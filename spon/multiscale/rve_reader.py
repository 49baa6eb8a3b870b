"""Make an RVE of a mesh: periodic space, strains at quadrature points, phases by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from mpi4py import MPI

from spon.errors import SponError, agree
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.measures import cell_measures
from spon.fem.mesh import TaggedMesh
from spon.fem.periodic import periodic
from spon.fem.readers import read_arrays
from spon.fem.spaces import CanonicalSpace, lagrange_element
from spon.fem.topology import Topology
from spon.multiscale.materials import Material
from spon.multiscale.micromodel import require_law
from spon.multiscale.rve import RVE

__all__ = ["read_rve"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_TOLERANCE = 1e-8  # of the extent of the cell, as that of `spon.periodic`
_POINTS_AT_ONCE = 65536


def read_rve(
    mesh: str | Path | TaggedMesh | MeshArrays,
    materials: Mapping[str, Material],
    degree: int = 2,
    quadrature: int | None = None,
    comm: MPI.Comm = MPI.COMM_WORLD,
) -> RVE:
    """Make the RVE of a mesh that fills a box. Collective over `comm`; every rank gets all of it.

    Sides of the box are found by their coordinates, phases by the names of the groups of cells.

    Args:
        mesh: file that `spon.read_mesh` reads, or a mesh; of dimension 2 (plane strain) or 3, opposite
            sides with equal facets.
        materials: phase → law, for every named group of cells.
        degree: of the displacement, continuous Lagrange.
        quadrature: degree; default: 2 · degree, for tetrahedra 2 · degree − 1, or the next one whose rule has
            positive weights alone, as surrogates need: for tetrahedra of degree 2 that is 4, 14 points.
        comm: its rank 0 reads the file.

    Raises:
        SponError: on all ranks: opposite sides that do not match; a mesh that does not fill its box; a
            phase without a law or a law without a phase; cells in no phase; a law with history, or whose
            tangent at zero strain is not symmetric positive definite.
    """
    arrays = None
    with agree(comm):
        if isinstance(mesh, TaggedMesh):
            arrays = mesh.arrays
        elif isinstance(mesh, MeshArrays):
            arrays = mesh
        elif comm.rank == 0:
            arrays = read_arrays(mesh)
    if not isinstance(mesh, TaggedMesh | MeshArrays):
        arrays = comm.bcast(arrays, root=0)
    with agree(comm):
        assert arrays is not None
        return _make(arrays, materials, degree, quadrature)


def _make(arrays: MeshArrays, materials: Mapping[str, Material], degree: int, quadrature: int | None) -> RVE:
    if degree < 1:
        raise SponError(f"degree = {degree}; allowed: 1, 2, …")
    if arrays.tdim != arrays.gdim:
        raise SponError(f"{arrays.source}: a surface in space; allowed: plane meshes and solids")
    _require_box(arrays)
    names = _phases(arrays, materials)
    size = arrays.tdim * (arrays.tdim + 1) // 2
    for name in names:
        _require_stable(name, materials[name], size)
    sides, pairs = _sides(arrays)
    boxed = TaggedMesh(sides, MPI.COMM_SELF)
    space = CanonicalSpace(boxed, lagrange_element(arrays.cell_type, degree, arrays.gdim))
    numbering = space.parts[0].numbering
    constraint = periodic(boxed, space, pairs)
    corner = int(np.argmin(space.nodes.sum(axis=1)))
    held = arrays.gdim * corner + np.arange(arrays.gdim)
    constraint = constraint.prescribe(held, np.zeros(arrays.gdim))
    if quadrature is None:
        quadrature = _positive(arrays.cell_type, 2 * degree - (arrays.cell_type == "tetrahedron"))
    gradients, weights, points = _tabulate(arrays, degree, quadrature)
    tags = np.array([arrays.cell_names[name] for name in names])
    return RVE(
        names=names,
        materials=tuple(materials[name] for name in names),
        cell_nodes=numbering.dofmap,
        gradients=gradients,
        cell_weights=weights,
        cell_phases=np.argmax(arrays.cell_tags[:, None] == tags, axis=1),
        Z=sp.csr_array(constraint.Z),
        node_coordinates=space.nodes,
        points=points,
        mesh_points=arrays.points,
        mesh_cells=arrays.cells,
        cell_type=arrays.cell_type,
        degree=degree,
        source=arrays.source,
    )


def _positive(cell_type: str, degree: int) -> int:
    """Return the least degree from `degree` on whose rule has no weight below zero."""
    while not reference.quadrature(cell_type, degree)[1].min() > 0:
        degree += 1
    return degree


def _require_box(arrays: MeshArrays) -> None:
    volume = float(cell_measures(arrays).sum())
    box = float(np.prod(np.ptp(arrays.points, axis=0)))
    if abs(volume - box) > 10 * _TOLERANCE * box:
        raise SponError(
            f"{arrays.source}: the cells fill {volume:.8g} of their box, {box:.8g}; allowed: all of it, "
            "holes are a phase with a soft law"
        )


def _phases(arrays: MeshArrays, materials: Mapping[str, Material]) -> tuple[str, ...]:
    names = tuple(n for n, tag in arrays.cell_names.items() if (arrays.cell_tags == tag).any())
    given = ", ".join(f"'{n}'" for n in materials) or "none"
    for name in names:
        if name not in materials:
            raise SponError(f"phase '{name}' of {arrays.source} has no law; there are laws for: {given}")
    for name in materials:
        if name not in names:
            allowed = ", ".join(f"'{n}'" for n in names) or "none"
            raise SponError(f"a law for '{name}', no phase of {arrays.source}; it has: {allowed}")
    nowhere = np.flatnonzero(arrays.cell_tags < 0)
    if len(nowhere):
        raise SponError(
            f"{arrays.source}: {len(nowhere)} cells belong to no phase, such as cell {nowhere[0]}; allowed: "
            "a named group for each"
        )
    return names


def _require_stable(name: str, material: Material, size: int) -> None:
    require_law(f"phase '{name}'", material)
    tangent = material.tangent(torch.zeros(1, size, dtype=torch.float64))[0]
    label = f"phase '{name}' ({type(material).__name__})"
    gap = float((tangent - tangent.mT).abs().max() / tangent.abs().max().clamp_min(1e-300))
    if not gap <= 1e-10:
        raise SponError(
            f"{label}: its tangent at zero strain is not symmetric, by {gap:.2g}; allowed: "
            "a law with a potential"
        )
    lowest = float(torch.linalg.eigvalsh(tangent)[0])
    if not lowest > 1e-12 * float(tangent.abs().max()):
        raise SponError(
            f"{label}: its tangent at zero strain has the eigenvalue {lowest:.3g}; allowed: positive ones"
        )


def _sides(arrays: MeshArrays) -> tuple[MeshArrays, list[tuple[str, str]]]:
    """Return the mesh with the sides of its box as named boundaries, and the pairs of opposite ones."""
    topology = Topology(arrays)
    outer = np.flatnonzero(topology.facet_cells == 1)
    cells, local = topology.facet_sides(outer)
    corners = arrays.cells[cells[:, None], reference.facet_corners(arrays.cell_type)[local]]
    low, high = arrays.points.min(axis=0), arrays.points.max(axis=0)
    near = _TOLERANCE * float((high - low).max())
    x = arrays.points[corners]  # (facets, corners, d)
    tags = np.full(len(outer), -1, dtype=np.int32)
    names, pairs = {}, []
    for axis, letter in enumerate("xyz"[: arrays.gdim]):
        pair = (f"low {letter}", f"high {letter}")
        for number, (name, value) in enumerate(zip(pair, (low[axis], high[axis]), strict=True)):
            names[name] = 2 * axis + number
            tags[(np.abs(x[:, :, axis] - value) <= near).all(axis=1)] = names[name]
        pairs.append(pair)
    inner = np.flatnonzero(tags < 0)
    if len(inner):
        place = ", ".join(f"{v:.6g}" for v in x[inner[0]].mean(axis=0))
        raise SponError(
            f"{arrays.source}: {len(inner)} facets with one cell are not on the sides of the box, such as "
            f"that at ({place}); allowed: cells that share their facets"
        )
    return replace(arrays, facets=corners, facet_tags=tags, facet_names=names), pairs


def _tabulate(arrays: MeshArrays, degree: int, quadrature: int) -> tuple[Floats, Floats, Floats]:
    """Return gradients (cells, points, nodes, d), weights (cells, points) and points (cells · points, d)."""
    X, reference_weights = reference.quadrature(arrays.cell_type, quadrature)
    slopes = reference.tabulate(arrays.cell_type, degree, X)[1]
    values, frame = reference.tabulate(arrays.cell_type, arrays.degree, X)
    cells = max(1, _POINTS_AT_ONCE // len(X))
    gradients, weights, points = [], [], []
    for first in range(0, len(arrays.cells), cells):
        x = arrays.points[arrays.cells[first : first + cells]]
        J = np.einsum("qkj,cki->cqij", frame, x)
        inverse = np.linalg.inv(J)
        gradients.append(slopes[None] @ inverse)
        weights.append(reference_weights * np.abs(reference.determinants(J)))
        points.append(np.einsum("qk,cki->cqi", values, x))
    return (
        np.concatenate(gradients),
        np.concatenate(weights),
        np.concatenate(points).reshape(-1, arrays.gdim),
    )
