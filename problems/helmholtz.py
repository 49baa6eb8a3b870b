"""Scattering of a time-harmonic wave by obstacles, in a random medium or with random incidence.

Find the complex amplitude u of the scattered wave (dimensionless, time factor exp(−iωt)) with

    −Δu − k² (1 + m) u = k² m u_inc     around the obstacles
                     u = −u_inc         on "obstacles" (sound-soft)
                 ∂u/∂n = i k u          on "outer"

k [1/m] is the wave number, 1 + m the squared index of refraction. The condition on "outer" is the radiation
condition of Sommerfeld at a finite distance: exact for waves that leave along the normal, an error of the
model otherwise (Engquist & Majda 1977, Math. Comp. 31, first order). The unknown is (Re u, Im u).

Random medium: u_inc = exp(i k d·x) and 1 + m = exp(w s g), g a Gaussian field of Matérn covariance,
smoothness 1, range ℓ, and w a window that falls to zero at the outer boundary; the operator is m ↦ u.
Random incidence: m = 0 and u_inc a sum of plane waves of uniformly random directions with complex Gaussian
amplitudes, E|u_inc|² = 1; the operator is g ↦ u with the boundary data g = −u_inc. Both are linear in u.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import ufl
from dolfinx import fem

import spon


class Helmholtz(spon.Problem):
    """Scattered wave m ↦ u or g ↦ u; see the module's docstring for the equations.

    Args:
        hierarchy: nested meshes of a plane geometry with boundaries "outer" and "obstacles".
        wavenumber: k, 1/m; take some ten nodes for each wavelength 2π/k.
        random: "medium" or "incidence".
        angle: direction d of the incoming wave in a random medium, radians from the x axis.
        sigma: s, standard deviation of the logarithm of the squared index of refraction.
        length: range ℓ as a fraction of the larger extent of the mesh.
        waves: number of plane waves of a random incidence.
        degree: of the Lagrange elements of u.

    Raises:
        spon.SponError: an unknown kind of random input.
    """

    default_mesh = "obstacles.geo"
    default_refinements = 1
    solver_options = "tuned"
    definite = False

    def __init__(
        self,
        hierarchy: spon.Hierarchy,
        wavenumber: float = 8.0,
        random: str = "medium",
        angle: float = 0.0,
        sigma: float = 0.4,
        length: float = 0.25,
        waves: int = 4,
        degree: int = 2,
    ) -> None:
        if random not in ("medium", "incidence"):
            raise spon.SponError(f"random = '{random}'; allowed: 'medium', 'incidence'")
        self.wavenumber, self.random, self.angle = wavenumber, random, angle
        self.sigma, self.length, self.waves, self.degree = sigma, length, waves, degree
        super().__init__(hierarchy, {"obstacles": lambda x: -self.incoming(x)})
        self.boundary_data = {"g": "obstacles"} if random == "incidence" else {}

    def make_space(self):
        return spon.lagrange(self.hierarchy.finest, self.degree, components=2)

    def make_inputs(self):
        """Return m in the first-order space, or the trace g."""
        mesh = self.hierarchy.finest
        if self.random == "medium":
            return {"m": spon.lagrange(mesh)}
        return {"g": spon.Trace(mesh, self.space, "obstacles")}

    def incoming(self, x):
        """Return (Re u_inc, Im u_inc) of the plane wave at points (2 or 3, n)."""
        phase = self.wavenumber * (np.cos(self.angle) * x[0] + np.sin(self.angle) * x[1])
        return np.stack([np.cos(phase), np.sin(phase)])

    @cached_property
    def field(self) -> spon.MaternField:
        """Gaussian field of the medium."""
        extent = float(np.ptp(self.nodal_level.points, axis=0).max())
        return spon.MaternField(self.nodal_level, self.length * extent)

    @cached_property
    def window(self) -> np.ndarray:
        """Window w = (1 − r²/R²)² at the nodes, R the least distance of "outer" from the centre."""
        points = self.nodal_level.points
        outer = points[np.unique(self.discretisation.boundaries["outer"])]
        centre = (outer.max(axis=0) + outer.min(axis=0)) / 2
        R = np.linalg.norm(outer - centre, axis=1).min()
        return np.maximum(0.0, 1 - ((points - centre) ** 2).sum(axis=1) / R**2) ** 2

    def sample(self, rng):
        """Draw m at the nodes, or g at the nodes of the obstacles, real and imaginary part adjacent."""
        if self.random == "medium":
            return np.exp(self.window * self.sigma * self.field(rng)) - 1
        angles = rng.uniform(0, 2 * np.pi, self.waves)
        real, imaginary = rng.standard_normal((2, self.waves)) / np.sqrt(2 * self.waves)
        trace = self.encoders["g"]
        x = trace.canonical.nodes[trace.dofs[::2] // 2]
        phase = self.wavenumber * x @ np.stack([np.cos(angles), np.sin(angles)])
        wave = np.exp(1j * phase) @ (real + 1j * imaginary)
        return -np.stack([wave.real, wave.imag], axis=1).ravel()

    def riesz(self, u, v):
        """Return ∫ ∇u·∇v + k² u·v."""
        k = fem.Constant(self.hierarchy.finest.dolfinx, float(self.wavenumber))
        return ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx + k**2 * ufl.inner(u, v) * ufl.dx

    def residual(self, u, m, v):
        """Return ∫ ∇u·∇v − k²(1 + m) u·v − k² m u_inc·v − ∫ k (−Im u, Re u)·v ds."""
        mesh = self.hierarchy.finest.dolfinx  # constants: another value needs no compilation
        k = fem.Constant(mesh, float(self.wavenumber))
        form = ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx - k**2 * ufl.inner(u, v) * ufl.dx
        form -= k * ufl.inner(ufl.as_vector([-u[1], u[0]]), v) * self.ds("outer")
        if self.random == "medium":
            x = ufl.SpatialCoordinate(mesh)
            direction = fem.Constant(mesh, np.array([np.cos(self.angle), np.sin(self.angle)]))
            phase = k * ufl.dot(direction, x)
            total = u + ufl.as_vector([ufl.cos(phase), ufl.sin(phase)])
            form -= k**2 * m * ufl.inner(total, v) * ufl.dx
        return form
