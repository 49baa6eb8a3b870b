"""Heat conduction in a plate with holes and a random conductivity.

Find the temperature u [K] with

    −div(κ ∇u) = f     in the plate
             u = u_D   on the boundaries with a prescribed temperature
       κ ∂u/∂n = q     on the boundaries with a prescribed heat flux
       κ ∂u/∂n = 0     elsewhere

κ = exp(σ g) [W/(m K)] with a Gaussian field g of Matérn covariance, smoothness 1, range ℓ;
f = 1 W/m³ by default. The operator to learn is κ ↦ u. The problem is linear in u.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import ufl
from dolfinx import fem

import spon


class Plate(spon.Problem):
    """Heat conduction κ ↦ u; see the module's docstring for the equations.

    Args:
        hierarchy: nested meshes of any plane geometry with named boundaries.
        temperature: prescribed u on named boundaries, K.
        flux: heat flux q into the plate on named boundaries, W/m².
        source: f, W/m³.
        sigma: standard deviation of log κ.
        length: range ℓ of log κ as a fraction of the larger extent of the mesh.

    Raises:
        spon.SponError: a heat flux that is not finite.
    """

    default_mesh = "plate.geo"
    default_refinements = 2
    units = {"kappa": "W/(m K)", "u": "K"}  # noqa: RUF012, read only

    def __init__(
        self,
        hierarchy: spon.Hierarchy,
        temperature: Mapping[str, float] | None = None,
        flux: Mapping[str, float] | None = None,
        source: float = 1.0,
        sigma: float = 0.7,
        length: float = 0.25,
    ) -> None:
        for name, q in (flux or {}).items():
            if not np.isfinite(q):
                raise spon.SponError(f"the heat flux on boundary '{name}' is {q}; it must be finite")
        super().__init__(hierarchy, temperature or {"left": 0.0, "right": 0.0, "circle": 1.0})
        self.flux = dict({"slot": 1.0} if flux is None else flux)
        self.source, self.sigma, self.length = source, sigma, length
        if self.comm.size == 1:  # symmetric positive definite, two-dimensional: Cholesky is fastest
            self.solver_options = {
                "ksp_type": "preonly",
                "pc_type": "cholesky",
                "pc_factor_mat_ordering_type": "nd",
            }
        else:
            self.solver_options = {"ksp_type": "cg", "pc_type": "hypre", "ksp_rtol": 1e-12}

    def make_inputs(self):
        """Return κ in the space of u."""
        return {"kappa": self.space}

    @cached_property
    def field(self) -> spon.MaternField:
        """Gaussian field of log κ."""
        points = self.discretisation.levels[0].points
        extent = float(np.ptp(points, axis=0).max())
        return spon.MaternField(self.discretisation.levels[0], self.length * extent)

    def sample(self, rng):
        """Draw κ at the nodes."""
        return np.exp(self.sigma * self.field(rng))

    def stability(self, m):
        """Return min κ: ∫ κ |∇v|² ≥ min κ ∫ |∇v|²; κ is largest and least at the nodes."""
        return m.min()

    def physics(self):
        return self.describe("diffusion", "kappa")

    def residual(self, u, m, v):
        """Return ∫ κ ∇u·∇v − ∫ f v − Σ ∫ q v ds."""
        mesh = self.hierarchy.finest.dolfinx  # constants: another value needs no compilation
        form = m * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
        form -= fem.Constant(mesh, float(self.source)) * v * ufl.dx
        for boundary, q in self.flux.items():
            form -= fem.Constant(mesh, float(q)) * v * self.ds(boundary)
        return form
