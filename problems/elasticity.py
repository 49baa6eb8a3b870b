"""Plane stress in a perforated sheet with a random Young's modulus.

Find the displacement u [m] with ε = sym ∇u and

    −div σ = 0                                           in the sheet
         σ = E/(1 − ν²) ((1 − ν) ε + ν tr(ε) I)          [Pa]
       u_i = prescribed, by component                    on supports
       σ n = t                                           on loaded boundaries
       σ n = 0                                           elsewhere

(plane stress: Timoshenko & Goodier 1970, Theory of Elasticity, chapter 2). E = E₀ exp(s g) with a
Gaussian field g of Matérn covariance, smoothness 1, range ℓ, at the nodes. By default the left and the bottom
are planes of symmetry and the right is pulled. The operator to learn is E ↦ u. The problem is linear in u.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import ufl
from dolfinx import fem

import spon


class Elasticity(spon.Problem):
    """Linear elasticity in plane stress E ↦ u; see the module's docstring for the equations.

    Args:
        hierarchy: nested meshes of any plane geometry with named boundaries.
        supports: u on named boundaries, as `spon.dirichlet` takes it: (0.0, None) holds u_x alone.
        traction: (t_x, t_y) on named boundaries, Pa.
        modulus: E₀, Pa.
        poisson: ν, −1 < ν ≤ 1/2.
        sigma: standard deviation s of log E.
        length: range ℓ as a fraction of the larger extent of the mesh.
        degree: of the Lagrange elements of u.

    Raises:
        spon.SponError: a traction that is not two finite numbers; ν out of range.
    """

    default_mesh = "perforated.geo"
    default_refinements = 2
    solver_options = "tuned"
    units = {"E": "Pa", "u": "m"}  # noqa: RUF012, read only

    def __init__(
        self,
        hierarchy: spon.Hierarchy,
        supports: Mapping[str, object] | None = None,
        traction: Mapping[str, Sequence[float]] | None = None,
        modulus: float = 70e9,
        poisson: float = 0.33,
        sigma: float = 0.5,
        length: float = 0.25,
        degree: int = 1,
    ) -> None:
        if not -1 < poisson <= 0.5:
            raise spon.SponError(f"poisson = {poisson}; allowed: -1 < poisson <= 0.5")
        traction = {"right": (50e6, 0.0)} if traction is None else traction
        for name, t in traction.items():
            if np.shape(t) != (2,) or not np.isfinite(t).all():
                raise spon.SponError(f"the traction on boundary '{name}' is {t}; allowed: two finite numbers")
        symmetry = {"left": (0.0, None), "bottom": (None, 0.0)}
        super().__init__(hierarchy, symmetry if supports is None else supports)
        self.traction, self.modulus, self.poisson = dict(traction), modulus, poisson
        self.sigma, self.length, self.degree = sigma, length, degree

    def make_space(self):
        return spon.lagrange(self.hierarchy.finest, self.degree, components=2)

    def make_inputs(self):
        """Return E in the first-order space."""
        return {"E": spon.lagrange(self.hierarchy.finest)}

    @cached_property
    def field(self) -> spon.MaternField:
        """Gaussian field of log E."""
        extent = float(np.ptp(self.nodal_level.points, axis=0).max())
        return spon.MaternField(self.nodal_level, self.length * extent)

    def sample(self, rng):
        """Draw E at the nodes."""
        return self.modulus * np.exp(self.sigma * self.field(rng))

    def physics(self):
        return self.describe("elasticity", "E", young=1.0, poisson=self.poisson, state="plane stress")

    def stress(self, u, E):
        """Return σ."""
        nu = fem.Constant(self.hierarchy.finest.dolfinx, float(self.poisson))
        strain = ufl.sym(ufl.grad(u))
        return E / (1 - nu**2) * ((1 - nu) * strain + nu * ufl.tr(strain) * ufl.Identity(2))

    def residual(self, u, m, v):
        """Return ∫ σ:∇v − Σ ∫ t·v ds."""
        form = ufl.inner(self.stress(u, m), ufl.sym(ufl.grad(v))) * ufl.dx
        for boundary, t in self.traction.items():
            constant = fem.Constant(self.hierarchy.finest.dolfinx, np.array(t, dtype=np.float64))
            form -= ufl.inner(constant, v) * self.ds(boundary)
        return form

    def derived(self, u, m):
        """Return the von Mises stress √(3/2 σ:σ − 1/2 (tr σ)²), Pa; σ_zz = 0."""
        s = self.stress(u, m)
        return {"von_mises": ufl.sqrt(1.5 * ufl.inner(s, s) - 0.5 * ufl.tr(s) ** 2)}
