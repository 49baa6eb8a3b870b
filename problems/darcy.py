"""Flow through a porous medium with a random permeability.

Find the pressure u (dimensionless, as is all here) with

    −div(κ ∇u) = f   in the domain, f = 1
             u = 0   on the boundary

Two-phase medium, a value for each cell: κ = 12 where a Gaussian field is positive at the centre of the
cell, else 3. The field has the covariance τ^{2(α−1)} (−Δ + τ²)^{−α}, α = 2, τ = 3, with Neumann conditions
on the bounding box and without the constant mode: the distribution of Li et al. 2021 (Fourier Neural
Operator, ICLR, appendix A.3), whose κ are values at nodes; the default mesh has 85 × 85 nodes.
Log-normal medium, at the nodes: κ = exp(s g), g of Matérn covariance, smoothness 1, range ℓ.
The operator to learn is κ ↦ u. The problem is linear in u.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import ufl
from dolfinx import fem

import spon


class Darcy(spon.Problem):
    """Pressure in a porous medium κ ↦ u; see the module's docstring for the equations.

    Args:
        hierarchy: nested meshes of any geometry.
        kind: "two-phase" or "lognormal".
        contrast: κ of the two phases.
        boundaries: where u = 0; default: all that have a name. Nothing flows through the others.
        source: f.
        sigma: standard deviation s of log κ of the log-normal medium.
        length: its range ℓ as a fraction of the larger extent of the mesh.

    Raises:
        spon.SponError: an unknown kind; phases that are not positive.
    """

    default_mesh = "square.geo"
    default_refinements = 2
    solver_options = "tuned"

    def __init__(
        self,
        hierarchy: spon.Hierarchy,
        kind: str = "two-phase",
        contrast: Sequence[float] = (12.0, 3.0),
        boundaries: Sequence[str] | None = None,
        source: float = 1.0,
        sigma: float = 0.7,
        length: float = 0.25,
    ) -> None:
        if kind not in ("two-phase", "lognormal"):
            raise spon.SponError(f"kind = '{kind}'; allowed: 'two-phase', 'lognormal'")
        if len(contrast) != 2 or not min(contrast) > 0:
            raise spon.SponError(f"contrast = {contrast}; allowed: two positive numbers")
        names = hierarchy.finest.arrays.facet_names if boundaries is None else boundaries
        super().__init__(hierarchy, dict.fromkeys(names, 0.0))
        self.kind, self.contrast, self.source = kind, tuple(contrast), source
        self.sigma, self.length = sigma, length

    def make_inputs(self):
        """Return κ, a value for each cell or node."""
        if self.kind == "lognormal":
            return {"kappa": self.space}
        return {"kappa": fem.functionspace(self.hierarchy.finest.dolfinx, ("DG", 0))}

    @cached_property
    def field(self) -> spon.BoxField | spon.MaternField:
        """Gaussian field of κ."""
        arrays = self.hierarchy.finest.arrays
        lower, upper = arrays.points.min(axis=0), arrays.points.max(axis=0)
        if self.kind == "lognormal":
            return spon.MaternField(self.nodal_level, self.length * float((upper - lower).max()))
        return spon.BoxField(arrays.centroids, tau=3.0, alpha=2.0, box=(lower, upper))

    def sample(self, rng):
        """Draw κ."""
        if self.kind == "lognormal":
            return np.exp(self.sigma * self.field(rng))
        return spon.threshold(self.field(rng), *self.contrast)

    def stability(self, m):
        """Return min κ: ∫ κ |∇v|² ≥ min κ ∫ |∇v|²; κ is largest and least at its DoFs."""
        return m.min()

    def physics(self):
        return self.describe("diffusion", "kappa")

    def residual(self, u, m, v):
        """Return ∫ κ ∇u·∇v − ∫ f v."""
        source = fem.Constant(self.hierarchy.finest.dolfinx, float(self.source))
        return m * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx - source * v * ufl.dx
