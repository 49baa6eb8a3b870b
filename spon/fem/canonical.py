"""Canonical numbering: one order of DoFs for files, whatever DOLFINx and MPI make of the mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import basix
import basix.ufl
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from petsc4py import PETSc

from spon import _compat
from spon.errors import SponError
from spon.fem.mesh import TaggedMesh
from spon.fem.numbering import Numbering
from spon.sparse import congruent

__all__ = ["CanonicalOrder", "CanonicalSpace", "Part", "continuous_lagrange", "lagrange_element"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A basix element within a space: the whole space, or one member of a mixed one.

    Attributes:
        numbering: of the element.
        block_size: copies of the element, for vectors and tensors.
        offset: canonical number of its first DoF in the space.
        name: element in words.
        shape: of a vector or tensor of copies, such as (2,) or (3, 3).
    """

    numbering: Numbering
    block_size: int
    offset: int
    name: str
    shape: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of DoFs."""
        return self.numbering.size * self.block_size

    @property
    def value_size(self) -> int:
        """Number of components of its functions."""
        return self.block_size * int(self.numbering.element.value_size)


class CanonicalSpace:
    """A finite-element space on an input mesh, in plain arrays: the same on any number of ranks.

    DoFs are numbered part by part (members of a mixed element); within a part by vertices, edges,
    faces and cells, in the order of the input mesh; the components of a blocked element are adjacent.
    Edges and faces are oriented from lower to higher input vertex.

    Args:
        mesh: whose `arrays` define the order.
        element: UFL element of `basix.ufl`: any basix element, blocked (vector, tensor) or mixed.

    Raises:
        SponError: an element that has no such description (quadrature, real, custom enriched).
    """

    def __init__(self, mesh: TaggedMesh, element: Any) -> None:
        self.mesh = mesh
        parts: list[Part] = []
        offset = 0
        for leaf, block_size, shape in _leaves(element):
            name = _described(leaf, block_size)
            parts.append(Part(mesh.numbering(leaf), block_size, offset, name, shape))
            offset += parts[-1].size
        self.parts = tuple(parts)
        self.size = offset

    @property
    def name(self) -> str:
        """Element in words, such as `P2 triangle x 2 + P1 triangle`."""
        return " + ".join(part.name for part in self.parts)

    @property
    def value_size(self) -> int:
        """Number of components of a function of the space, those of all parts together."""
        return sum(part.value_size for part in self.parts)

    @classmethod
    def of_part(cls, mesh: TaggedMesh, part: Part) -> CanonicalSpace:
        """Return the space of one element alone.

        Args:
            mesh: of the space.
            part: element; its offset does not count.
        """
        out = object.__new__(cls)
        out.mesh, out.size = mesh, part.size
        out.parts = (replace(part, offset=0),)
        return out

    def part(self, number: int) -> CanonicalSpace:
        """Return a member of a mixed space as a space of its own."""
        return self.of_part(self.mesh, self.parts[number])

    def scalar(self) -> CanonicalSpace:
        """Return the space of one component of a blocked space."""
        (part,) = self.parts
        return self.of_part(self.mesh, replace(part, block_size=1, shape=(), name=part.name.split(" x ")[0]))

    def boundary_dofs(self, boundary: str, part: int = 0) -> Integers:
        """Return the numbers of all DoFs of a part on a named boundary, (nodes, block size).

        Raises:
            SponError: there is no such boundary, or it has no facets.
        """
        self.mesh.tag(boundary)
        chosen = self.parts[part]
        on = chosen.numbering.on_boundary(boundary)
        return np.asarray(chosen.offset + chosen.block_size * on[:, None] + np.arange(chosen.block_size))

    @cached_property
    def nodes(self) -> Floats:
        """(nodes, gdim) points of the DoFs of a Lagrange space, one for all components of a vector.

        Raises:
            SponError: the DoFs of the space are not point values.
        """
        (part,) = self.parts if len(self.parts) == 1 else (None,)
        if part is None or not point_values(part.numbering.element):
            raise SponError(f"the DoFs of {self.name} are not values at points; allowed: Lagrange")
        cells, local = part.numbering.owners()
        return self.mesh.geometry.points(cells, part.numbering.element.points[local])


def lagrange_element(cell_type: str, degree: int, components: int = 1) -> Any:
    """Return the UFL element of continuous Lagrange functions.

    Args:
        cell_type: such as "triangle".
        degree: ≥ 1.
        components: 1 for a scalar, else a vector of this length.
    """
    shape = None if components == 1 else (components,)
    return basix.ufl.element("Lagrange", cell_type, degree, shape=shape)


def continuous_lagrange(element: Any) -> bool:
    """Whether a basix element is continuous Lagrange."""
    return bool(element.family == basix.ElementFamily.P and not element.discontinuous)


def point_values(element: Any) -> bool:
    """Whether the DoFs of a basix element are values at its points."""
    return bool(element.interpolation_is_identity) and element.map_type == basix.MapType.identity


def _leaves(element: Any) -> list[tuple[Any, int, tuple[int, ...]]]:
    """Flatten a UFL element into (basix element, block size, shape of the block)."""
    if isinstance(element, basix.ufl._MixedElement):
        return [leaf for sub in element.sub_elements for leaf in _leaves(sub)]
    block_size, shape = 1, ()
    if isinstance(element, basix.ufl._BlockedElement):
        block_size, shape = int(element.block_size), tuple(element._block_shape)
        (element,) = set(element.sub_elements)
    if not isinstance(element, basix.ufl._BasixElement):
        raise SponError(f"element {element} is not supported; allowed: those of basix, blocked or mixed")
    return [(element.basix_element, block_size, shape)]


def _described(element: Any, block_size: int) -> str:
    family = f"D{element.family.name}" if element.discontinuous else element.family.name
    variant = ""
    if element.family == basix.ElementFamily.P and element.lagrange_variant.name not in (
        "gll_warped",
        "unset",
    ):
        variant = f" {element.lagrange_variant.name}"
    blocks = f" x {block_size}" if block_size > 1 else ""
    return f"{family}{element.degree}{variant} {element.cell_type.name}{blocks}"


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
