"""Prescribed values on named boundaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import basix
import numpy as np
import numpy.typing as npt

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.mesh import TaggedMesh
from spon.fem.spaces import CanonicalSpace, point_values
from spon.fem.transfer import interpolate

__all__ = ["BoundaryValue", "dirichlet", "slip"]

Floats = npt.NDArray[np.float64]
Function = Callable[[Floats], Floats]
BoundaryValue = float | Function | Sequence["float | Function | None"]


def dirichlet(mesh: TaggedMesh, space: Any, values: Mapping[str, BoundaryValue], part: int = 0) -> Constraint:
    """Prescribe values on named boundaries: Z drops these rows, u_g holds the values.

    For H(div) spaces this fixes the normal component, for H(curl) spaces the tangential one, of the
    interpolated function.

    Args:
        mesh: mesh with named boundaries.
        space: `dolfinx.fem.FunctionSpace` on it, or a `CanonicalSpace`.
        values: for each boundary a number, a function of points (3, points) as in
            `dolfinx.fem.Function.interpolate`, or, for vectors, a sequence of one for each component
            with None for a component that stays free.
        part: member of a mixed space.

    Returns:
        The constraint in canonical order, the same on every rank; u_g is zero at the free DoFs.

    Raises:
        SponError: an unknown or empty boundary; two boundaries that prescribe different values at
            a common point; a value that is not finite or of the wrong length; an element without DoFs
            on boundaries.
    """
    whole = canonical_space(mesh, space)
    chosen = whole.part(part) if len(whole.parts) > 1 else whole
    offset, n = whole.parts[part].offset, chosen.size
    shift, owner = np.zeros(n), np.full(n, -1)
    names = list(values)
    for number, (name, value) in enumerate(values.items()):
        dofs = carried(chosen, name)
        data, components = _data(chosen, name, value)
        there = dofs[:, components].ravel()
        if not np.isfinite(data[there]).all():
            raise SponError(f"the value prescribed on boundary '{name}' is not finite")
        clash = there[(owner[there] >= 0) & ~np.isclose(shift[there], data[there], rtol=0, atol=1e-12)]
        if len(clash):
            other, where = names[owner[clash[0]]], _place(chosen, int(clash[0]))
            raise SponError(
                f"boundaries '{other}' and '{name}' prescribe {shift[clash[0]]:g} and "
                f"{data[clash[0]]:g} at their common {where}"
            )
        shift[there], owner[there] = data[there], number
    fixed = np.flatnonzero(owner >= 0)
    return Constraint.none(whole.size).prescribe(offset + fixed, shift[fixed])


def slip(mesh: TaggedMesh, space: Any, boundaries: Sequence[str], part: int = 0) -> Constraint:
    """Set the normal component to zero on named boundaries, in an H(div) space.

    The DoFs of facets there are dropped, so that u·n = 0 holds pointwise. The tangential component is
    not constrained: weak forms (Nitsche, interior penalty) take care of it.

    Args:
        mesh: mesh with named boundaries.
        space: RT or BDM space, or a mixed one.
        boundaries: names.
        part: member of a mixed space.

    Raises:
        SponError: not an H(div) element; an unknown boundary.
    """
    whole = canonical_space(mesh, space)
    element = whole.parts[part].numbering.element
    if element.map_type != basix.MapType.contravariantPiola:
        raise SponError(f"slip needs an H(div) element (RT, BDM), not {whole.parts[part].name}")
    return dirichlet(mesh, whole, dict.fromkeys(boundaries, 0.0), part)


def carried(space: CanonicalSpace, boundary: str) -> npt.NDArray[np.int64]:
    """Return the DoFs of an element on a boundary, (nodes, block size).

    Raises:
        SponError: an unknown boundary, or an element that has no DoFs on boundaries, such as DG.
    """
    dofs = space.boundary_dofs(boundary)
    if dofs.size == 0:
        raise SponError(
            f"{space.name} has no DoFs on boundary '{boundary}'; allowed: continuous, H(div) or H(curl) "
            "elements, or a weak form (Nitsche)"
        )
    return dofs


def canonical_space(mesh: TaggedMesh, space: Any) -> CanonicalSpace:
    """Return the plain description of a live space.

    Raises:
        SponError: the space is on another mesh.
    """
    if isinstance(space, CanonicalSpace):
        if space.mesh is mesh:
            return space
    elif space.mesh is mesh.dolfinx or space.mesh._cpp_object is mesh.dolfinx._cpp_object:
        return CanonicalSpace(mesh, space.ufl_element())
    raise SponError(f"the space lives on another mesh than {mesh.arrays.source}")


def _data(space: CanonicalSpace, name: str, value: Any) -> tuple[Floats, list[int]]:
    """Return values (DoFs,) that interpolate the data, and the components that they are for."""
    (part,) = space.parts
    width = part.block_size
    everything = list(range(width))
    if callable(value):
        return interpolate(space, value), everything
    if np.ndim(value) == 0:
        if part.value_size > width and value != 0.0:
            raise SponError(f"boundary '{name}' needs 0 or a vector of {part.value_size}; found {value}")
        return np.full(space.size, float(value)), everything
    if len(value) != part.value_size:
        raise SponError(f"boundary '{name}' has {len(value)} components; allowed: {part.value_size}")
    if part.value_size > width:
        if any(v is None or callable(v) for v in value):
            raise SponError(f"boundary '{name}': {part.name} takes numbers or one function of all components")
        constant = np.array(value, dtype=np.float64)
        return interpolate(space, lambda x: np.repeat(constant[:, None], x.shape[1], axis=1)), everything
    out = np.zeros((part.numbering.size, width))
    scalar = space.scalar()
    for component, one in enumerate(value):
        if one is not None:
            out[:, component] = interpolate(scalar, one) if callable(one) else float(one)
    return out.ravel(), [c for c in everything if value[c] is not None]


def _place(space: CanonicalSpace, dof: int) -> str:
    (part,) = space.parts
    if point_values(part.numbering.element):
        return f"point {tuple(map(float, space.nodes[dof // part.block_size]))}"
    return f"DoF {dof}"
