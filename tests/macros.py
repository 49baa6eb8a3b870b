"""Macroscopic problems on boxes, and a law as a microscale that can be in doubt."""

import math

import numpy as np
from mpi4py import MPI

import spon
from meshes import box, mapped
from spon.fem.mesh import TaggedMesh

WORLD = MPI.COMM_WORLD
SOFT = spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06)
STIFF = spon.LinearElastic(K=4000.0, G=500.0)


def wavy(x):
    return x + 0.03 * np.sin(3 * x[::-1])


def on_mesh(cell="triangle", n=3, comm=WORLD):
    return TaggedMesh(mapped(box(cell, n), wavy), comm)


def cantilever(mesh, degree=2, traction=5.0, **settings):
    d = mesh.arrays.gdim
    space = spon.lagrange(mesh, degree, d)
    load = {"right": [0.0] * (d - 1) + [traction]}
    return spon.TwoScaleProblem(mesh, space, {"left": 0.0}, load, **settings)


def displacement(solution):
    return solution.order.gather(solution.displacement.x.array)


class Partial:
    """The law, with an indicator of its own; fails where γ_xy exceeds `limit`."""

    def __init__(self, law=SOFT, size=3, limit=math.inf):
        self.law, self.strain_size, self.limit = law, size, limit
        self.asked = []

    def respond(self, strain, where=None):
        self.asked.append((strain.clone(), where))
        stress, tangent = self.law.response(strain)
        shear = strain[:, -1].abs()
        return spon.Response(stress, tangent, shear, shear > self.limit)
