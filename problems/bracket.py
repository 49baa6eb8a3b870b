"""An elastic angle bracket under a random traction.

Find the displacement u [m] with ε = sym ∇u and

    −div σ = 0                          in the bracket
         σ = λ tr(ε) I + 2μ ε           [Pa]
         u = 0                          on "bolt"
       σ n = t                          on "end"
       σ n = 0                          elsewhere

(Hooke's law of an isotropic body, λ and μ from E and ν). Each component of t is its mean plus a Gaussian
process on the boundary with covariance s² exp(−r²/2ℓ²), independent of the others. The operator to learn is
t ↦ u, from a field on "end" to one in the bracket. The problem is linear in u, the operator in t.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import ufl
from dolfinx import fem

import spon


class Bracket(spon.Problem):
    """Linear elasticity t ↦ u; see the module's docstring for the equations.

    Args:
        hierarchy: nested meshes of any body in space with boundaries "bolt" and "end".
        modulus: E, Pa.
        poisson: ν, −1 < ν < 1/2.
        mean: of t, Pa.
        deviation: s, Pa.
        length: ℓ, m.
        degree: of the Lagrange elements of u; first-order ones are much too stiff in bending.

    Raises:
        spon.SponError: ν out of range; a mean that is not three numbers.
    """

    default_mesh = "bracket.geo"
    solver_options = "tuned"
    units = {"t": "Pa", "u": "m"}  # noqa: RUF012, read only

    def __init__(
        self,
        hierarchy: spon.Hierarchy,
        modulus: float = 210e9,
        poisson: float = 0.3,
        mean: Sequence[float] = (0.0, 0.0, -1e6),
        deviation: float = 0.5e6,
        length: float = 0.03,
        degree: int = 2,
    ) -> None:
        if not -1 < poisson < 0.5:
            raise spon.SponError(f"poisson = {poisson}; allowed: -1 < poisson < 0.5")
        if np.shape(mean) != (3,):
            raise spon.SponError(f"mean = {mean}; allowed: three numbers")
        super().__init__(hierarchy, {"bolt": 0.0})
        self.modulus, self.poisson, self.mean = modulus, poisson, np.array(mean, dtype=np.float64)
        self.deviation, self.length, self.degree = deviation, length, degree

    def make_space(self):
        return spon.lagrange(self.hierarchy.finest, self.degree, components=3)

    def make_inputs(self):
        """Return t, first-order Lagrange on "end"."""
        mesh = self.hierarchy.finest
        return {"t": spon.Trace(mesh, spon.lagrange(mesh, components=3), "end")}

    @cached_property
    def process(self) -> spon.GaussianProcess:
        """Gaussian process of one component."""
        trace = self.encoders["t"]
        points = trace.canonical.nodes[trace.dofs[::3] // 3]
        return spon.GaussianProcess(points, self.length, variance=self.deviation**2)

    def sample(self, rng):
        """Draw t at the nodes of "end", its components adjacent."""
        return (self.mean + np.stack([self.process(rng) for _ in range(3)], axis=1)).ravel()

    def physics(self):
        return self.describe("elasticity", young=self.modulus, poisson=self.poisson, state="solid")

    def stress(self, u):
        """Return σ."""
        mesh = self.hierarchy.finest.dolfinx  # constants: another value needs no compilation
        E, nu = fem.Constant(mesh, float(self.modulus)), fem.Constant(mesh, float(self.poisson))
        lame, mu = E * nu / ((1 + nu) * (1 - 2 * nu)), E / (2 * (1 + nu))
        strain = ufl.sym(ufl.grad(u))
        return lame * ufl.tr(strain) * ufl.Identity(3) + 2 * mu * strain

    def residual(self, u, m, v):
        """Return ∫ σ:∇v − ∫ t·v ds."""
        return ufl.inner(self.stress(u), ufl.sym(ufl.grad(v))) * ufl.dx - ufl.inner(m, v) * self.ds("end")

    def derived(self, u, m):
        """Return the von Mises stress √(3/2 s:s), s = dev σ, Pa."""
        deviator = ufl.dev(self.stress(u))
        return {"von_mises": ufl.sqrt(1.5 * ufl.inner(deviator, deviator))}
