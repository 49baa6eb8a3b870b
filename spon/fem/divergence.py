"""Divergence-free fields as the curl of a stream function or a vector potential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import basix
import numpy as np
import scipy.sparse as sp

from spon.constraint import Constraint, Latent
from spon.errors import SponError
from spon.fem.boundary import canonical_space
from spon.fem.gauge import mean_potentials, vector_potentials
from spon.fem.mesh import TaggedMesh
from spon.fem.numbering import Numbering
from spon.fem.periodic import tie
from spon.fem.stream import mean_flows, stream_functions
from spon.fem.transfer import reference_map

__all__ = ["curl", "divergence_free", "potential"]


def divergence_free(
    mesh: TaggedMesh,
    space: Any,
    impermeable: Sequence[str] = (),
    part: int = 0,
    periodic: Mapping[str, str] | Sequence[tuple[str, str]] = (),
) -> Constraint:
    """Write u in an H(div) space as the curl of a potential, so that div u = 0 pointwise.

    In the plane u = (∂ψ/∂y, −∂ψ/∂x) with a continuous Lagrange stream function ψ of degree k for RT_k
    and k + 1 for BDM_k (RT_k on quadrilaterals); in space u = curl A with A in the Nédélec space of the
    first kind of the same degrees. The map is the same matrix on each reference cell and integer
    for the lowest degree, so that no geometry and no round-off enter.

    On impermeable boundaries u·n = 0 exactly: the normal component of H(div) is set strongly. The
    tangential component is not a DoF; no-slip has to be imposed weakly, or learned.

    In the plane ψ is constant on each connected piece of the impermeable boundary: zero on the first
    one and a free constant on each other one, one for every hole, which is the flux between them. Without
    impermeable boundaries one value of ψ is fixed. In space A×n = 0 on impermeable
    boundaries, and a gauge leaves each field u a single A: A is dropped on a spanning tree of the edges,
    and on as many DoFs of edges, faces and cells as there are gradients there (tree-cotree
    gauge: Albanese & Rubinacci 1988, IEE Proc. A 135; higher degrees by elimination on each entity).
    Where impermeable boundaries in space have handles or a rim (a pipe), fields with a net flux through
    these are no curl of such an A: carry that flux by the shift, `constraint.with_shift(u_g)`.

    A prescribed flow u·n = g through boundaries is carried by the shift too: name these boundaries
    impermeable here, and take u_g = `divergence_free_projection(…).lift(dirichlet(…).shift)`.

    Args:
        mesh: mesh with named boundaries.
        space: `dolfinx.fem.FunctionSpace` RT or BDM, or a mixed one; or a `CanonicalSpace`.
        impermeable: names of boundaries where u·n = 0.
        part: member of a mixed space that is divergence-free; the others stay free.
        periodic: (boundary, its image): all members are tied there, and u may have a mean flow.

    Returns:
        Z with independent columns. Its latent DoFs are those of the potential (with one for each mean
        flow behind them: the flux across a line from a point to its image, in space through the
        parallelogram of two translations) and of the other members.

    Raises:
        SponError: not RT or BDM; an unknown boundary; periodic boundaries that do not match, whose
            translations depend on each other, or together with impermeable ones in space.
    """
    whole = canonical_space(mesh, space)
    numbering = whole.parts[part].numbering
    inner = mesh.numbering(potential(numbering.element))
    for name in impermeable:
        mesh.tag(name)
    walls = [mesh.topology.facets(name) for name in impermeable]
    facets = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *walls]))
    if mesh.arrays.tdim == 3 and len(periodic) and len(impermeable):
        raise SponError(
            f"{mesh.arrays.source}: periodic divergence-free fields with impermeable boundaries are made in "
            "the plane alone; allowed in space: one of the two"
        )
    ties = tie(mesh, periodic)
    C = curl(numbering, inner)
    if mesh.arrays.tdim == 2:
        cells, local = inner.owners()
        points = mesh.geometry.points(cells, inner.element.points[local])
        S, gauge = stream_functions(inner, facets, ties)
        harmonic = mean_flows(inner, facets, ties, points)
    else:
        S, gauge = vector_potentials(inner, facets, ties)
        harmonic = mean_potentials(mesh, inner, ties)
    flows = harmonic.shape[1]
    S, gauge = sp.block_diag([S, sp.eye_array(flows)]), sp.block_diag([gauge, sp.csr_array((flows, 0))])
    passing = np.ones(numbering.size)
    passing[numbering.on_facets(facets)] = 0.0  # u·n = 0 without the round-off of sums that cancel
    C = sp.csr_array(sp.diags_array(passing) @ sp.hstack([C, C @ harmonic]))
    outer, selection, left_out = [], [], []
    for number, one in enumerate(whole.parts):
        rest = ties.map(one.numbering, ties.numbering(one.numbering.element)) if len(periodic) else None
        rest = sp.eye_array(one.numbering.size) if rest is None else rest
        outer.append(C if number == part else sp.eye_array(one.size))
        selection.append(S if number == part else sp.kron(rest, sp.eye_array(one.block_size)))
        left_out.append(gauge if number == part else sp.csr_array((one.size, 0)))
    image, free, unneeded = (sp.csr_array(sp.block_diag(b)) for b in (outer, selection, left_out))
    Z = sp.csr_array(image @ free)
    Z.eliminate_zeros()
    Z.sort_indices()
    return Constraint(Z, np.zeros(whole.size), Latent(image, free, unneeded, ((part, flows),)))


def potential(element: Any) -> Any:
    """Return the basix element whose curl is the divergence-free part of an H(div) element.

    Raises:
        SponError: not RT or BDM.
    """
    family, kind, degree = element.family, element.cell_type, element.degree
    simplex = kind in (basix.CellType.triangle, basix.CellType.tetrahedron)
    if element.discontinuous or not (
        family == basix.ElementFamily.RT or (family == basix.ElementFamily.BDM and simplex)
    ):
        raise SponError(
            f"divergence-free fields need RT, or BDM on simplices; found {family.name}{degree} {kind.name}"
        )
    degree = degree if family == basix.ElementFamily.RT else degree + 1
    if len(basix.topology(kind)) == 3:
        return basix.create_element(basix.ElementFamily.P, kind, degree, basix.LagrangeVariant.gll_warped)
    return basix.create_element(basix.ElementFamily.N1E, kind, degree, basix.LagrangeVariant.legendre)


def curl(target: Numbering, source: Numbering) -> sp.csr_array:
    """Return the curl as a map of DoFs: (DoFs of RT or BDM, DoFs of the potential)."""
    element = target.element
    tables = source.element.tabulate(1, np.array(element.points))[1:]  # (direction, point, DoF, component)
    if len(tables) == 2:
        values = np.stack([tables[1, :, :, 0], -tables[0, :, :, 0]])
    else:
        d = tables.transpose(0, 3, 1, 2)  # (direction, component, point, DoF)
        values = np.stack([d[1, 2] - d[2, 1], d[2, 0] - d[0, 2], d[0, 1] - d[1, 0]])
    flat = values.reshape(-1, values.shape[-1])
    return reference_map(target, source, np.array(element.interpolation_matrix) @ flat)
