"""A triangle with a notch: boundary data in, solution out.

Find u (dimensionless, as is all here) with

    −Δu = f   in the triangle, f = 10
      u = g   on "outer"
      u = 0   on "notch"

(Lu et al. 2022, Comput. Methods Appl. Mech. Engrg. 393, 114778: Darcy flow in a triangle with a notch).
g is a Gaussian process with covariance exp(−r²/2ℓ²), ℓ = 0.2, r the distance of two points of the boundary,
or of their x coordinates alone if `horizontal`. It is conditioned to be zero where the outer boundary meets
the notch, so that the data are continuous and u is in H1; without that they jump there, and the energy of
finite-element solutions grows as the mesh is refined. The operator to learn is g ↦ u. It is affine in g.

The extension of g that every prediction contains is harmonic and solves this equation but for f, so that what
is left to the network is one and the same function for every g.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import ufl
from dolfinx import fem

import spon


class Notch(spon.Problem):
    """Poisson's equation g ↦ u; see the module's docstring.

    Args:
        hierarchy: nested meshes of any geometry with boundaries "outer" and "notch".
        source: f.
        length: ℓ.
        horizontal: whether the covariance depends on the x coordinates alone.
    """

    default_mesh = "notch.geo"
    default_refinements = 2
    boundary_data = {"g": "outer"}  # noqa: RUF012, read only

    def __init__(
        self, hierarchy: spon.Hierarchy, source: float = 10.0, length: float = 0.2, horizontal: bool = False
    ) -> None:
        super().__init__(hierarchy, {"outer": 0.0, "notch": 0.0})
        self.source, self.length, self.horizontal = source, length, horizontal

    def make_inputs(self):
        """Return g, the values of u at the nodes of the outer boundary."""
        return {"g": spon.Trace(self.hierarchy.finest, self.space, "outer")}

    @cached_property
    def points(self) -> np.ndarray:
        """Points (nodes of the outer boundary, 2 or 1) whose distance the covariance depends on."""
        trace = self.encoders["g"]
        points = trace.canonical.nodes[trace.dofs]
        return points[:, :1] if self.horizontal else points

    @cached_property
    def process(self) -> spon.GaussianProcess:
        """Gaussian process before it is conditioned."""
        return spon.GaussianProcess(self.points, self.length)

    @cached_property
    def mouth(self) -> tuple[np.ndarray, np.ndarray]:
        """Where on the outer boundary the notch is met, and the weights (nodes, there) of kriging."""
        there = np.flatnonzero(np.isin(self.encoders["g"].dofs, self.discretisation.boundary_dofs["notch"]))
        difference = self.points[:, None] - self.points[there]
        covariance = np.exp(-(difference**2).sum(axis=2) / (2 * self.length**2))
        return there, covariance @ np.linalg.inv(covariance[there])

    def sample(self, rng):
        """Draw g; what is subtracted is its conditional mean given its values at the notch."""
        there, weights = self.mouth
        g = self.process(rng)
        g = g - weights @ g[there]
        g[there] = 0.0
        return g

    def stability(self, m):
        """Return 1: the operator is the Riesz map."""
        return 1.0

    def physics(self):
        return self.describe("diffusion")

    def residual(self, u, m, v):
        """Return ∫ ∇u·∇v − ∫ f v; g enters by the constraint."""
        source = fem.Constant(self.hierarchy.finest.dolfinx, float(self.source))
        return ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx - source * v * ufl.dx
