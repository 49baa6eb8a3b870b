"""Small problems with equations that torch knows: scalar, vector, periodic, with boundary data, nonlinear."""

import numpy as np
import ufl
from conftest import Diffusion, on_square
from mpi4py import MPI

import spon


def _load(name):
    return getattr(spon.load_problem(spon.find_problem(f"{name.lower()}.py")), name)


class Sheet(_load("Elasticity")):
    """Plane stress on the unit square, its left side held."""

    def __init__(self, hierarchy, degree=1):
        supports = {"left": (0.0, None), "bottom": (None, 0.0)}
        super().__init__(hierarchy, supports, {"right": (1.0, 0.5)}, modulus=1.0, degree=degree)


class Periodic(Diffusion):
    """Sheets that repeat: nothing is prescribed, the mean is zero."""

    def make_constraint(self):
        return spon.periodic(self.hierarchy.finest, self.space, {"left": "right", "bottom": "top"})

    def make_zero_mean(self):
        return spon.zero_mean(self.order)

    def residual(self, u, m, v):
        x = ufl.SpatialCoordinate(self.hierarchy.finest.dolfinx)
        return m * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx - ufl.cos(2 * np.pi * x[0]) * v * ufl.dx


def notch():
    return _load("Notch").from_mesh(group=MPI.COMM_SELF, refinements=1)


def beam():
    return _load("Hyperelasticity").from_mesh(group=MPI.COMM_SELF, refinements=1, degree=1)


LINEAR = {
    "diffusion": lambda: Diffusion(on_square(3, 2)),
    "elasticity": lambda: Sheet(on_square(2, 2)),
    "quadratic": lambda: Sheet(on_square(2, 1), degree=2),
    "periodic": lambda: Periodic(on_square(4, 1)),
    "boundary data": notch,
}
