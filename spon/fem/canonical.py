"""Canonical numbering: one order of DoFs for files, whatever DOLFINx and MPI make of the mesh."""

from __future__ import annotations

from typing import Any

import basix.ufl
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from petsc4py import PETSc

from spon import _compat
from spon.errors import SponError
from spon.fem.mesh import TaggedMesh
from spon.fem.numbering import Numbering
from spon.fem.spaces import CanonicalSpace, Part
from spon.sparse import congruent

__all__ = ["CanonicalOrder"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class CanonicalOrder:
    """The map between the DoFs of a live space and the canonical order. Collective.

    u_canonical = B u_live: B permutes, and turns the DoFs of edges and faces whose vertices DOLFINx
    and the input mesh order differently (a sign for RT and N1curl of lowest degree).

    Args:
        mesh: the mesh of the space.
        space: `dolfinx.fem.FunctionSpace`: Lagrange, DG, H(div), H(curl), blocked or mixed.

    Attributes:
        canonical: the space in plain arrays.
        local: (owned + ghost DoFs,) canonical position of each local DoF, unrolled.
        everywhere: (DoFs,) canonical position of each global DoF of DOLFINx, unrolled.
        owned: number of DoFs that this rank owns.

    Raises:
        SponError: the space is on another mesh, or its element has no canonical order.
    """

    def __init__(self, mesh: TaggedMesh, space: Any) -> None:
        if space.mesh is not mesh.dolfinx and space.mesh._cpp_object is not mesh.dolfinx._cpp_object:
            raise SponError(f"the space lives on another mesh than {mesh.arrays.source}")
        self.mesh, self.space = mesh, space
        self.canonical = CanonicalSpace(mesh, space.ufl_element())
        index_map, block = space.dofmap.index_map, space.dofmap.index_map_bs
        self.owned = int(index_map.size_local) * block
        local = np.full(self.owned + index_map.num_ghosts * block, -1, dtype=np.int64)
        cells = np.asarray(mesh.dolfinx.topology.original_cell_index)
        turned = []
        for part, live in zip(self.canonical.parts, _live_dofmaps(space), strict=True):
            width = part.block_size
            canonical = part.offset + width * part.numbering.dofmap[cells][:, :, None] + np.arange(width)
            live = live.reshape(canonical.shape)
            local[live] = canonical
            if part.numbering.turns:
                turned.append(self._turned(part, cells, live, canonical))
        self.local: Integers = local
        self.everywhere: Integers = np.concatenate(mesh.comm.allgather(local[: self.owned]))
        self._turn = self._unturn = None
        if turned:
            n = self.canonical.size
            self._turn, self._unturn = (self._gathered(k, turned, n) for k in (0, 1))

    @property
    def size(self) -> int:
        """Number of DoFs."""
        return self.canonical.size

    def _turned(self, part: Part, cells: Integers, live: Integers, canonical: Integers) -> Any:
        """Return entries of B and B⁻¹ (both in canonical positions) for the DoFs owned here."""
        topology = self.mesh.dolfinx.topology
        topology.create_entity_permutations()
        info = topology.get_cell_permutation_info()[: len(cells)]
        turned = _live_blocks(part.numbering, info)
        entries = []
        for (dofs, own), (_, there) in zip(part.numbering.entity_blocks(cells), turned, strict=True):
            forward = np.linalg.solve(own.transpose(0, 2, 1), there.transpose(0, 2, 1))
            first = np.unique(canonical[:, dofs[0], 0], return_index=True)[1]
            first = first[live[first, dofs[0], 0] < self.owned]
            forward = forward[first]
            position = canonical[first][:, dofs]  # (entity, dof, component)
            for block, where in ((forward, 0), (np.linalg.inv(forward), 1)):
                for component in range(part.block_size):
                    rows = position[:, :, component]
                    i = np.broadcast_to(rows[:, :, None], block.shape)
                    j = np.broadcast_to(rows[:, None, :], block.shape)
                    entries.append((where, i[block != 0], j[block != 0], block[block != 0]))
        return entries

    def _gathered(self, which: int, turned: list[Any], n: int) -> sp.csr_array:
        mine = [e[1:] for entries in turned for e in entries if e[0] == which]
        empty: Any = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        stacked = tuple(np.concatenate(a) for a in zip(empty, *mine, strict=True))
        gathered = self.mesh.comm.allgather(stacked)
        i, j, values = (np.concatenate(a) for a in zip(*gathered, strict=True))
        _, once = np.unique(i * n + j, return_index=True)  # an entity appears in several places of a cell
        i, j, values = i[once], j[once], values[once]
        alone = np.ones(n, dtype=bool)
        alone[i] = False
        rest = np.flatnonzero(alone)
        entries = (
            np.concatenate([values, np.ones(len(rest))]),
            (np.concatenate([i, rest]), np.concatenate([j, rest])),
        )
        return sp.csr_array(entries, shape=(n, n))

    def gather(self, values: Floats) -> Floats:
        """Gather a vector on all ranks, in canonical order. Collective.

        Args:
            values: (owned DoFs, …) or longer; ghosts are ignored.

        Returns:
            (DoFs,) float64.
        """
        parts = self.mesh.comm.allgather(np.asarray(values[: self.owned]))
        out = np.empty(self.size)
        out[self.everywhere] = np.concatenate(parts)
        return out if self._turn is None else self._turn @ out

    def gather_dual(self, values: Floats) -> Floats:
        """Gather an assembled linear form, b_i = L(φ_i), in canonical order. Collective.

        Args:
            values: (owned DoFs, …), accumulated over the ranks.

        Returns:
            (DoFs,) float64: B⁻ᵀ b.
        """
        parts = self.mesh.comm.allgather(np.asarray(values[: self.owned]))
        out = np.empty(self.size)
        out[self.everywhere] = np.concatenate(parts)
        return out if self._unturn is None else self._unturn.T @ out

    def to_live(self, values: Floats) -> Floats:
        """Return canonical values (DoFs,) as (owned + ghost DoFs,) of this rank."""
        turned = values if self._unturn is None else self._unturn @ values
        out: Floats = turned[self.local]
        return out

    def scatter(self, values: Floats, function: Any) -> None:
        """Write canonical values into a live function, ghosts included.

        Args:
            values: (DoFs,) in canonical order, the same on every rank.
            function: `dolfinx.fem.Function` in the space.

        Raises:
            SponError: wrong length.
        """
        if np.shape(values) != (self.size,):
            raise SponError(f"values of shape {np.shape(values)}; allowed: ({self.size},)")
        function.x.array[:] = self.to_live(np.asarray(values))

    def live_rows(self, matrix: sp.csr_array) -> sp.csr_array:
        """Return B⁻¹ Z with rows in DOLFINx's global order, for Z (DoFs, …) in canonical order."""
        turned = matrix if self._unturn is None else sp.csr_array(self._unturn @ matrix)
        return sp.csr_array(turned[self.everywhere])

    def matrix(self, matrix: PETSc.Mat, columns: CanonicalOrder | None = None) -> sp.csr_array:
        """Gather an assembled form on all ranks, in canonical order: B⁻ᵀ A B⁻¹. Collective.

        Args:
            matrix: a(φ_j, φ_i), rows on this space.
            columns: order of the space of φ_j; default: this one.
        """
        columns = self if columns is None else columns
        indptr, indices, data = matrix.getValuesCSR()
        first, last = matrix.getOwnershipRange()
        rows = np.repeat(self.everywhere[first:last], np.diff(indptr))
        mine = (rows, columns.everywhere[indices], data)
        entries = self.mesh.comm.allgather(mine)
        row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
        gathered = sp.csr_array((value, (row, column)), shape=(self.size, columns.size))
        gathered.sort_indices()
        if self._unturn is None and columns._unturn is None:
            return gathered
        return congruent(gathered, self._unturn, columns._unturn)


def _live_dofmaps(space: Any) -> list[Integers]:
    """Return, part by part, (cells, DoFs per cell, block size) local unrolled DoFs of a live space."""
    if not isinstance(space.ufl_element(), basix.ufl._MixedElement):
        block = space.dofmap.bs
        dofs = np.asarray(space.dofmap.list, dtype=np.int64)
        return [block * dofs[:, :, None] + np.arange(block)]
    out = []
    for number in range(len(space.ufl_element().sub_elements)):
        collapsed, parent = _compat.collapse(space.sub(number))
        out += [parent[dofs] for dofs in _live_dofmaps(collapsed)]
    return out


def _live_blocks(numbering: Numbering, info: Any) -> list[tuple[list[int], Floats]]:
    """Return T of edges and faces as DOLFINx has them, from its packed orientation of cells."""
    orientation = numbering.orientation
    faces = len(orientation.entity_dofs[2]) if orientation.tdim == 3 else 0
    out = []
    for dim in range(1, orientation.tdim):
        if not orientation.entity_dofs[dim][0]:
            continue
        for entity, dofs in enumerate(orientation.entity_dofs[dim]):
            bits = (info >> (3 * faces + entity)) & 1 if dim == 1 else (info >> (3 * entity)) & 7
            blocks = orientation.blocks(dim, bits.astype(np.int64))
            assert blocks is not None
            out.append((dofs, blocks))
    return out
