"""Finite-element spaces on an input mesh in plain arrays, numbered by the mesh alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import basix
import basix.ufl
import numpy as np
import numpy.typing as npt

from spon.errors import SponError
from spon.fem.mesh import TaggedMesh
from spon.fem.numbering import Numbering

__all__ = ["CanonicalSpace", "Part", "continuous_lagrange", "lagrange_element", "point_values"]

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
