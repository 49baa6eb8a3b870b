"""Projections whose matrices DOLFINx assembles, in parallel."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import ufl

from spon.constraint import Constraint
from spon.errors import SponError
from spon.fem.assembly import assembled, assembled_vector
from spon.fem.canonical import CanonicalOrder
from spon.fem.mesh import TaggedMesh
from spon.fem.transfer import interpolate
from spon.projection import DivergenceFree, ZeroMean

__all__ = ["divergence_free_projection", "zero_mean"]


def zero_mean(order: CanonicalOrder, part: int | None = None) -> ZeroMean:
    """Return the projection onto functions of mean zero. Collective.

    Args:
        order: canonical order of a scalar space, or of a mixed one.
        part: scalar member of a mixed space, such as the pressure.

    Returns:
        Plain arrays, the same on every rank, in canonical order.

    Raises:
        SponError: the space or its member is not scalar.
    """
    parts = order.canonical.parts
    chosen = parts[0 if part is None else part]
    if chosen.value_size != 1 or (part is None and len(parts) > 1):
        raise SponError(
            f"a mean needs a scalar space, or a scalar member of a mixed one: not {order.canonical.name}"
        )
    test = ufl.TestFunction(order.space)
    test = ufl.split(test)[part] if part is not None and len(parts) > 1 else test
    vector = assembled_vector(test * ufl.dx)
    weights = order.gather_dual(vector.array_r)
    vector.destroy()
    constant = np.zeros(order.size)
    scalar = order.canonical.part(part) if part is not None and len(parts) > 1 else order.canonical
    constant[chosen.offset : chosen.offset + chosen.size] = interpolate(scalar, lambda x: np.ones(x.shape[1]))
    return ZeroMean(weights, constant)


def divergence_free_projection(
    mesh: TaggedMesh, velocity: Any, pressure: Any, constraint: Constraint | None = None
) -> DivergenceFree:
    """Return the L2 projection onto discretely divergence-free velocities. Collective.

    For Taylor–Hood the divergence of the result is orthogonal to all pressures, for RT_k with
    DG_(k−1) and BDM_k with DG_(k−1) it vanishes pointwise.

    Args:
        mesh: of both spaces.
        velocity: space of u, vector Lagrange, RT, BDM, ….
        pressure: scalar space of a stable pair.
        constraint: of u, such as no-slip walls; its Z counts, not its shift.

    Returns:
        Plain arrays, the same on every rank, in canonical order.

    Raises:
        SponError: spaces on another mesh, a velocity without divergence, a constraint of another size.
    """
    order, other = CanonicalOrder(mesh, velocity), CanonicalOrder(mesh, pressure)
    gdim = mesh.arrays.gdim
    if order.canonical.value_size != gdim or other.canonical.value_size != 1:
        raise SponError(
            f"velocity {order.canonical.name} and pressure {other.canonical.name}; allowed: a vector space "
            f"of {gdim} components and a scalar space"
        )
    u, v = ufl.TrialFunction(velocity), ufl.TestFunction(velocity)
    q = ufl.TestFunction(pressure)
    M, B = assembled(ufl.inner(u, v) * ufl.dx), assembled(q * ufl.div(u) * ufl.dx)
    mass, divergence = order.matrix(M), other.matrix(B, columns=order)
    M.destroy()
    B.destroy()
    constant = interpolate(other.canonical, lambda x: np.ones(x.shape[1]))
    Z = sp.csr_array(sp.eye_array(order.size)) if constraint is None else constraint.Z
    return DivergenceFree(mass, divergence, Z, constant)
