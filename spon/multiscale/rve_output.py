"""Local fields of a cell, for ParaView and as pictures."""

from __future__ import annotations

from pathlib import Path

import basix.ufl
import numpy as np
from mpi4py import MPI
from torch import Tensor

from spon.errors import SponError
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.mesh import TaggedMesh
from spon.fem.output.write import write
from spon.fem.spaces import CanonicalSpace, lagrange_element
from spon.multiscale.rve import RVE
from spon.multiscale.voigt import COMPONENTS

__all__ = ["write_local_fields"]

_SUFFIXES = (".vtu", ".xdmf", ".png")


def write_local_fields(path: str | Path, rve: RVE, macro: Tensor, fluctuation: Tensor) -> None:
    """Write displacement, strains and stresses of a cell. On one process.

    The displacement is that of the macroscopic strain plus the fluctuation; strains (engineering shear) and
    stresses are means over each cell of the mesh.

    Args:
        path: `.vtu`, `.xdmf` or `.png`.
        rve: the cell.
        macro: (n,) macroscopic strain.
        fluctuation: (dofs,).

    Raises:
        SponError: another suffix, a wrong shape, an unwritable path.
    """
    if Path(path).suffix not in _SUFFIXES:
        raise SponError(f"{path}: unknown output format; allowed: {', '.join(_SUFFIXES)}")
    d = rve.dimension
    strain = rve.strains(macro[None], fluctuation[None])
    stress = rve.stresses(strain)
    mesh = TaggedMesh(_arrays(rve), MPI.COMM_SELF)
    nodal = CanonicalSpace(mesh, lagrange_element(rve.cell_type, rve.degree, d))
    constant = CanonicalSpace(mesh, basix.ufl.element("DG", rve.cell_type, 0))
    E = macro.numpy()
    tensor = np.diag(E[:d])
    pairs = ((0, 1),) if d == 2 else ((1, 2), (0, 2), (0, 1))
    for value, (i, j) in zip(E[d:], pairs, strict=True):
        tensor[i, j] = tensor[j, i] = value / 2
    moved = rve.node_coordinates @ tensor + fluctuation.numpy().reshape(-1, d)
    fields = {"displacement": (nodal, moved.ravel())}
    share = rve.cell_weights / rve.cell_weights.sum(axis=1, keepdims=True)
    for name, values in (("strain", strain), ("stress", stress)):
        local = values[0].numpy().reshape(*rve.cell_weights.shape, -1)
        means = np.einsum("cq,cqi->ic", share, local)
        for component, mean in zip(COMPONENTS[len(macro)], means, strict=True):
            fields[f"{name}_{component}"] = (constant, mean)
    write(path, None, fields)


def _arrays(rve: RVE) -> MeshArrays:
    corners = reference.facet_corners(rve.cell_type).shape[1]
    return MeshArrays(
        points=rve.mesh_points,
        cells=rve.mesh_cells,
        cell_type=rve.cell_type,
        cell_tags=rve.cell_phases.astype(np.int32),
        facets=np.empty((0, corners), dtype=np.int64),
        facet_tags=np.empty(0, dtype=np.int32),
        cell_names={name: number for number, name in enumerate(rve.names)},
        facet_names={},
        source=rve.source,
    )
