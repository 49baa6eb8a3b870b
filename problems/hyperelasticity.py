"""Large deformation of a rubber beam under a random traction.

Find the displacement u [m] of the beam with deformation gradient F = I + ∇u and

    −Div P(F) = 0   in the beam
            u = 0   on "fixed"
          P n = t   on "end", a dead load
          P n = 0   elsewhere

    P = μ (F − F⁻ᵀ) + λ ln J F⁻ᵀ,   J = det F

the first Piola-Kirchhoff stress [Pa] of the compressible neo-Hookean energy
μ/2 (F:F − 3) − μ ln J + λ/2 (ln J)² (Bonet & Wood 2008, Nonlinear Continuum Mechanics for Finite Element
Analysis, section 6.4.3). t [Pa] is uniform over the end, each of its components uniformly distributed
in ±amplitude. The operator to learn is t ↦ u. The problem is nonlinear in u: Newton's method, in load steps.
"""

from __future__ import annotations

from functools import cached_property

import ufl
from dolfinx import fem

import spon


class Hyperelasticity(spon.Problem):
    """Neo-Hookean solid t ↦ u; see the module's docstring for the equations.

    Args:
        hierarchy: nested meshes of a body in space with boundaries "fixed" and "end".
        young: Young's modulus E at small strain, Pa.
        poisson: Poisson's ratio ν at small strain, −1 < ν < 1/2.
        amplitude: largest |t_i|, Pa; of the default beam, an axial load of 1.3 % of E is the Euler load.
        degree: of the Lagrange elements; first-order ones are too stiff in bending.

    Raises:
        spon.SponError: a Poisson's ratio, modulus or amplitude out of range.
    """

    default_mesh = "beam.geo"
    default_refinements = 1
    linear = False
    load_steps = 2
    # In bending the residual grows before it falls, and a line search that forbids that takes tiny steps.
    solver_options = {"snes_linesearch_type": "basic"}  # noqa: RUF012, read only
    units = {"t": "Pa", "u": "m"}  # noqa: RUF012, read only

    def __init__(
        self,
        hierarchy: spon.Hierarchy,
        young: float = 1e6,
        poisson: float = 0.3,
        amplitude: float = 6e3,
        degree: int = 2,
    ) -> None:
        if not -1 < poisson < 0.5 or not young > 0 or not amplitude >= 0:
            raise spon.SponError(
                f"young = {young}, poisson = {poisson}, amplitude = {amplitude}; "
                "allowed: young > 0, -1 < poisson < 0.5, amplitude >= 0"
            )
        super().__init__(hierarchy, {"fixed": 0.0})
        self.mu = young / (2 * (1 + poisson))
        self.lame = young * poisson / ((1 + poisson) * (1 - 2 * poisson))
        self.amplitude, self.degree = amplitude, degree

    def make_space(self):
        return spon.lagrange(self.hierarchy.finest, self.degree, components=3)

    def make_inputs(self):
        """Return the three components of t."""
        return {"t": spon.Parameters(self.hierarchy.finest, ("t_x", "t_y", "t_z"))}

    @cached_property
    def load(self) -> fem.Constant:
        """Share of the traction."""
        return fem.Constant(self.hierarchy.finest.dolfinx, 1.0)

    def sample(self, rng):
        """Draw t."""
        return rng.uniform(-self.amplitude, self.amplitude, 3)

    def physics(self):
        return self.describe("neo-hookean", mu=self.mu, lame=self.lame)

    def stress(self, u):
        """Return P(F) and F."""
        mesh = self.hierarchy.finest.dolfinx  # constants: another value needs no compilation
        mu, lame = fem.Constant(mesh, float(self.mu)), fem.Constant(mesh, float(self.lame))
        F = ufl.Identity(3) + ufl.grad(u)
        inverse = ufl.inv(F).T
        return mu * (F - inverse) + lame * ufl.ln(ufl.det(F)) * inverse, F

    def residual(self, u, m, v):
        """Return ∫ P:∇v − load ∫ t·v ds."""
        dx = ufl.dx(metadata={"quadrature_degree": 2 * self.degree})
        P, _ = self.stress(u)
        return ufl.inner(P, ufl.grad(v)) * dx - self.load * ufl.inner(m, v) * self.ds("end")

    def derived(self, u, m):
        """Return the von Mises measure of the Cauchy stress P Fᵀ / J, Pa."""
        P, F = self.stress(u)
        deviator = ufl.dev(P * F.T / ufl.det(F))
        return {"von_mises": ufl.sqrt(1.5 * ufl.inner(deviator, deviator))}
