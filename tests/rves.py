"""Small cells, their laws, and laws that have no equilibrium."""

from dataclasses import replace

import numpy as np
import torch
from mpi4py import MPI

import spon
from meshes import box
from spon.multiscale.materials import Material
from spon.multiscale.voigt import deviatoric_square, trace

SOFT = spon.LinearElastic(K=2.0, G=1.0)
STIFF = spon.LinearElastic(K=11.0, G=7.0)
MATRIX = spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06)
FIBRE = spon.LinearElastic(K=43452.381, G=29918.0328)
PAPER = {"matrix": MATRIX, "inclusion": FIBRE}


def layered(cell_type, n, degree=1, axis=1):
    """A box whose first half along an axis is soft, the other stiff."""
    arrays = box(cell_type, n, degree)
    tags = np.where(arrays.centroids[:, axis] < 0.5, 1, 2).astype(np.int32)
    return replace(arrays, cell_tags=tags, cell_names={"soft": 1, "stiff": 2})


def chequered(laws=(MATRIX, FIBRE), size=1.0):
    """Two squares of four are inclusions; larger ones are moved, too."""
    arrays = box("quadrilateral", 4)
    inside = (arrays.centroids[:, 0] < 0.5) == (arrays.centroids[:, 1] < 0.5)
    tags = np.where(inside, 2, 1).astype(np.int32)
    arrays = replace(arrays, cell_tags=tags, cell_names={"matrix": 1, "inclusion": 2})
    arrays = replace(arrays, points=size * arrays.points + (size - 1))
    return spon.read_rve(arrays, dict(zip(("matrix", "inclusion"), laws, strict=True)), comm=MPI.COMM_SELF)


def strains(size, count, scale=0.04):
    return torch.as_tensor(np.random.default_rng(3).uniform(-scale, scale, (count, size)))


def coarse(name, tmp_path, n):
    """A mesh that comes with spon, with fewer cells."""
    text = spon.find_mesh(name).read_text()
    assert "n = 12;" in text
    path = tmp_path / name
    path.write_text(text.replace("n = 12;", f"n = {n};"))
    return path


class Softening(Material):
    """Not convex away from zero: no minimum."""

    def potential(self, strain):
        square = trace(strain) ** 2 + deviatoric_square(strain)
        return square - 1e3 * square**2


def laminate(layers, axis, size):
    """Effective stiffness of isotropic layers of equal thickness, normal to an axis, by textbook formulas."""
    lam = torch.tensor([m.K - 2 * m.G / 3 for m in layers], dtype=torch.float64)
    mu = torch.tensor([m.G for m in layers], dtype=torch.float64)
    M = lam + 2 * mu
    d = 2 if size == 3 else 3
    normal = 1 / (1 / M).mean()
    C = torch.zeros(size, size, dtype=torch.float64)
    for i in range(d):
        for j in range(d):
            if i == j == axis:
                C[i, j] = normal
            elif axis in (i, j):
                C[i, j] = (lam / M).mean() * normal
            else:
                along = (M if i == j else lam) - lam**2 / M
                C[i, j] = along.mean() + (lam / M).mean() ** 2 * normal
    planes = [(0, 1)] if d == 2 else [(1, 2), (0, 2), (0, 1)]
    for k, plane in enumerate(planes):
        C[d + k, d + k] = 1 / (1 / mu).mean() if axis in plane else mu.mean()
    return C
