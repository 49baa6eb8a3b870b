"""What is to be written: names, spaces and values of fields, checked and made ready for any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import basix
import basix.ufl
import numpy as np
import numpy.typing as npt

from spon.errors import SponError
from spon.fem.canonical import CanonicalOrder
from spon.fem.spaces import CanonicalSpace
from spon.fem.transfer import interpolation

__all__ = ["Field", "checked_times", "collect"]

Floats = npt.NDArray[np.float64]
Space = CanonicalOrder | CanonicalSpace

_FORBIDDEN = "<>&\"'/\\"
_RESERVED = {  # by the layout of a VTX file
    "NumberOfEntities",
    "NumberOfNodes",
    "connectivity",
    "geometry",
    "step",
    "types",
    "vtk.xml",
    "vtkGhostType",
    "vtkOriginalPointIds",
}


@dataclass(frozen=True)
class Field:
    """A field of a space that is not mixed, at one or several times.

    Attributes:
        name: in the file.
        space: on the input mesh.
        values: (steps, DoFs) in canonical order.
    """

    name: str
    space: CanonicalSpace
    values: Floats

    @property
    def element(self) -> Any:
        """The `basix` element of one block."""
        return self.space.parts[0].numbering.element

    @property
    def degree(self) -> int:
        """Degree of the lowest Lagrange space that holds the field on straight simplices."""
        return int(self.element.embedded_superdegree)

    @property
    def continuous(self) -> bool:
        """Whether the field has one value at each point."""
        return not self.element.discontinuous and self.element.sobolev_space == basix.SobolevSpace.H1

    def lagrange(self, degree: int, continuous: bool) -> CanonicalSpace:
        """Return the Lagrange space of a degree with the components of the field."""
        shape = (self.space.value_size,) if self.space.value_size > 1 else None
        arrays = self.space.mesh.arrays
        element = basix.ufl.element(
            "Lagrange", arrays.cell_type, degree, shape=shape, discontinuous=not continuous
        )
        return CanonicalSpace(self.space.mesh, element)

    def nodal(self, degree: int, continuous: bool) -> Floats:
        """Interpolate into a Lagrange space; where the field jumps at continuous nodes, take its mean.

        Returns:
            (steps, nodes, components) in canonical order of that space.
        """
        target = self.lagrange(degree, continuous)
        values = self.values
        if target.parts[0].numbering is not self.space.parts[0].numbering:
            average = continuous and not self.continuous
            values = (interpolation(target, self.space, average=average) @ values.T).T
        return np.reshape(values, (len(values), -1, self.space.value_size))

    @property
    def _square(self) -> int:
        """Rows of a tensor; 0 for what is none."""
        shape = self.space.parts[0].shape
        return shape[0] if len(shape) == 2 and min(shape) == max(shape) <= 3 else 0

    def columns(self, values: Floats) -> list[tuple[str, Floats]]:
        """Split or pad components as ParaView wants them: scalars, 3-vectors, 3 × 3 tensors.

        Args:
            values: (…, components) of the field.

        Returns:
            Names, and values (…, k) with k = 1, 3 or 9.
        """
        c, n = values.shape[-1], self._square
        if n:
            i, j = np.divmod(np.arange(n * n), n)
            if c < n * n:  # symmetric: (0, 0), (1, 0), (1, 1), … are there
                values = values[..., np.maximum(i, j) * (np.maximum(i, j) + 1) // 2 + np.minimum(i, j)]
            out = np.zeros((*values.shape[:-1], 9))
            out[..., 3 * i + j] = values
            return [(self.name, out)]
        if c == 1:
            return [(self.name, values)]
        if c <= 3:
            return [(self.name, np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 3 - c)]))]
        return [(f"{self.name}_{k}", values[..., k : k + 1]) for k in range(c)]


def checked_times(times: Sequence[float] | None) -> Floats | None:
    """Return the times as an array.

    Raises:
        SponError: none, not finite, or not increasing.
    """
    if times is None:
        return None
    out = np.asarray(times, dtype=np.float64)
    if out.ndim != 1 or len(out) == 0:
        raise SponError(f"times of shape {out.shape}; allowed: (steps,)")
    bad = np.flatnonzero(~np.isfinite(out) | (np.diff(out, prepend=-np.inf) <= 0))
    if len(bad):
        k = int(bad[0])
        after = f" after {out[k - 1]:g}" if k else ""
        raise SponError(f"time {k} is {out[k]:g}{after}; allowed: finite and increasing")
    return out


def collect(
    order: Space | Mapping[str, Space] | None, fields: Mapping[Any, Any], times: Floats | None, suffix: str
) -> list[Field]:
    """Check all that `write` was given, and take mixed fields apart.

    Raises:
        SponError: no fields, no space or several meshes, values of a wrong shape, bad names.
    """
    out: list[Field] = []
    for key, value in fields.items():
        space, values = _split(order, key, value)
        space = space.canonical if isinstance(space, CanonicalOrder) else space
        values = np.asarray(values, dtype=np.float64)
        steps = 1 if times is None else len(times)
        allowed: list[tuple[int, ...]] = [(space.size,)]
        if times is not None:
            allowed.append((steps, space.size))
        if values.shape not in allowed:
            words = " or ".join(map(str, allowed))
            hint = "" if times is not None or values.ndim < 2 else " (a series needs times)"
            raise SponError(f"field '{key}' has values of shape {values.shape}; allowed: {words}{hint}")
        values = np.broadcast_to(np.atleast_2d(values), (steps, space.size))
        for name, number in _names(key, len(space.parts)):
            part = space.parts[number]
            alone = space if len(space.parts) == 1 else space.part(number)
            out.append(Field(name, alone, values[:, part.offset : part.offset + part.size]))
    if not out:
        raise SponError("there are no fields to write")
    if any(field.space.mesh is not out[0].space.mesh for field in out):
        raise SponError("the fields live on several meshes; allowed: one mesh for a file")
    _check_names(out, suffix)
    return out


def _split(order: Any, key: Any, value: Any) -> tuple[Space, Any]:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], CanonicalOrder | CanonicalSpace):
        return value
    if isinstance(order, Mapping):
        if key not in order:
            raise SponError(
                f"there is no space for field '{key}'; there is one for: {', '.join(map(str, order))}"
            )
        order = order[key]
    if not isinstance(order, CanonicalOrder | CanonicalSpace):
        raise SponError(
            f"the space of field '{key}' is a {type(order).__name__}; allowed: CanonicalOrder, CanonicalSpace"
        )
    return order, value


def _names(key: Any, parts: int) -> list[tuple[str, int]]:
    if isinstance(key, tuple):
        if len(key) != parts:
            raise SponError(f"{len(key)} names {key} for a space of {parts} members")
        return [(name, number) for number, name in enumerate(key)]
    return [(key, 0)] if parts == 1 else [(f"{key}_{number}", number) for number in range(parts)]


def _check_names(fields: list[Field], suffix: str) -> None:
    seen: set[str] = set()
    for field in fields:
        name = field.name
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise SponError(f"field name {name!r}; allowed: printable text")
        if set(name) & set(_FORBIDDEN):
            raise SponError(
                f"field name '{name}' has one of the characters {_FORBIDDEN} that are not allowed"
            )
        if suffix == ".bp" and name in _RESERVED:
            raise SponError(f"field name '{name}' is reserved in .bp files: {', '.join(sorted(_RESERVED))}")
        written = [column for column, _ in field.columns(np.zeros((1, field.space.value_size)))]
        if seen & set(written):
            raise SponError(f"two fields are called '{(seen & set(written)).pop()}'")
        seen |= set(written)
