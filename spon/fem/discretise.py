"""Assemble a discretisation once, in parallel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.constraint import Constraint
from spon.discretisation import Discretisation, fingerprint
from spon.errors import SponError
from spon.fem.boundary import canonical_space
from spon.fem.canonical import CanonicalOrder
from spon.fem.divergence import potential
from spon.fem.encoding import Dofs, Encoder
from spon.fem.extension import Extension
from spon.fem.freeze import freeze_space, nodal_interpolation
from spon.fem.hierarchy import Hierarchy
from spon.fem.levels import freeze_levels
from spon.fem.spaces import CanonicalSpace, Part
from spon.projection import ZeroMean

__all__ = ["discretise"]


def discretise(
    hierarchy: Hierarchy,
    space: Any,
    constraint: Constraint | None = None,
    inputs: Mapping[str, Any] | None = None,
    degree: int | None = None,
    energy: Any = None,
    zero_mean: ZeroMean | None = None,
) -> Discretisation:
    """Assemble Gram matrices, levels, encoders, decoder, lift and cut-off. Collective.

    Args:
        hierarchy: meshes, finest first.
        space: `dolfinx.fem.FunctionSpace` of the output on the finest mesh.
        constraint: of the output, in canonical order; default: none.
        inputs: for each input a live space (its DoFs are the input) or an encoder, such as
            `spon.Moments`; default: one input "m" in the space of the output.
        degree: of the nodal features on the finest level; default: the highest degree of the output
            and its potentials, at least 1.
        energy: UFL bilinear form of an energy norm on `space`, without boundary conditions.
        zero_mean: of `spon.zero_mean`, where the output is determined up to a constant.

    Returns:
        The same arrays on every rank, in canonical order: integers identical, floats up to the
        round-off of parallel assembly.

    Raises:
        SponError: a space on another mesh, a constraint or mean of another size, an element without
            canonical order.
    """
    mesh = hierarchy.finest
    output = canonical_space(mesh, space)
    constraint = constraint or Constraint.none(output.size)
    if constraint.Z.shape[0] != output.size:
        raise SponError(
            f"a constraint on {constraint.Z.shape[0]} DoFs; allowed: {output.size}, as {output.name} has"
        )
    if zero_mean is not None and len(zero_mean.constant) != output.size:
        raise SponError(
            f"a mean of {len(zero_mean.constant)} DoFs; allowed: {output.size}, as {output.name} has"
        )
    encoders = {name: _encoder(mesh, name, value) for name, value in (inputs or {"m": space}).items()}
    order = CanonicalOrder(mesh, space)
    latent, flows = _latent_parts(output, constraint)
    if degree is None:
        degree = max(1, *(part.numbering.element.embedded_superdegree for part in latent))
    if degree < 1:
        raise SponError(f"degree = {degree}; allowed: 1, 2, 3, …")
    extension = Extension(mesh, constraint)
    w, lifted = extension.cutoff(latent, len(flows), degree), extension.harmonic(output.parts)
    frozen = freeze_space(order, degree, energy)
    spaces = {name: frozen if e.is_space(space) else e.freeze(degree) for name, e in encoders.items()}
    levels = freeze_levels(hierarchy, degree, (w == 0.0).all(axis=1))
    corners = _facet_corners(mesh)
    there = {
        name: np.concatenate([output.boundary_dofs(name, i).ravel() for i in range(len(output.parts))])
        for name in corners
    }
    description = [
        f"{len(levels)} levels",
        f"degree {degree}",
        f"{hierarchy.aggregations} aggregations",
        output.name,
    ]
    description += [f"input {name!r} {encoder.description}" for name, encoder in encoders.items()]
    if zero_mean is not None:
        description.append(f"zero mean of {np.count_nonzero(zero_mean.constant)} DoFs")
    meshes = [(m.arrays.points, m.arrays.cells) for m in hierarchy.meshes]
    mark = fingerprint(meshes, "; ".join(description), lifted)
    decoder = sp.csr_array(constraint.from_latent @ nodal_interpolation(mesh, latent, flows, degree))
    decoder.sort_indices()
    lifted = replace(lifted, latent=None)  # its way is in the decoder
    return Discretisation(levels, spaces, frozen, lifted, decoder, w, corners, there, mark, zero_mean)


def _encoder(mesh: Any, name: str, value: Any) -> Encoder:
    encoder = value if isinstance(value, Encoder) else Dofs(mesh, value)
    if encoder.mesh is not mesh:
        raise SponError(f"input '{name}' lives on another mesh than {mesh.arrays.source}")
    return encoder


def _latent_parts(output: CanonicalSpace, constraint: Constraint) -> tuple[list[Part], list[int]]:
    """Return the members of the latent space (those of the output, or their potentials), and mean flows.

    Returns:
        Members, their offsets in the latent DoFs; and the latent DoFs that are mean flows.
    """
    potentials = dict(constraint.latent.potentials) if constraint.latent else {}
    parts: list[Part] = []
    flows: list[int] = []
    offset = 0
    for number, part in enumerate(output.parts):
        if number in potentials:
            numbering = output.mesh.numbering(potential(part.numbering.element))
            parts.append(Part(numbering, 1, offset, f"potential of {part.name}"))
        else:
            parts.append(replace(part, offset=offset))
        offset += parts[-1].size + potentials.get(number, 0)
        flows += range(offset - potentials.get(number, 0), offset)
    return parts, flows


def _facet_corners(mesh: Any) -> dict[str, npt.NDArray[np.int64]]:
    """Return the corners of the facets of each named boundary as nodes, which number vertices first."""
    topology, arrays = mesh.topology, mesh.arrays
    numbers = topology.vertex_number[arrays.facets]
    found = {name: numbers[arrays.facet_tags == tag] for name, tag in arrays.facet_names.items()}
    return {name: facets for name, facets in found.items() if len(facets)}
