"""Cook's membrane as a two-scale problem: every quadrature point asks a surrogate of a periodic cell.

A tapered panel of 48 mm, clamped at the left and loaded by a uniform shear traction at the right, in plane
strain (Cook 1974, ASCE J. Struct. Div. 100). At each point is the third cell of Eivazi et al. 2025 (arXiv
2504.07976), a soft matrix with three stiff inclusions. Its surrogate learns from a few load cases, which
the ranks share; where its estimated error is too large, or the strain leaves what it was trained for, the
point solves the cell by finite elements. The homogeneous matrix is solved for comparison: it is one line.

Run with `python3 examples/cook.py` or `mpirun -n 2 python3 examples/cook.py`. `spon fe2 run examples/cook.py`
takes the microscale from files.
"""

import numpy as np
import torch
from mpi4py import MPI

import spon

TRACTION = (0.0, 5.0)  # MPa
MATRIX = spon.Deviatoric(K=4780.0, alpha1=50.0, alpha2=0.06)  # MPa
INCLUSION = spon.LinearElastic(K=43452.381, G=29918.0328)
TRAINED = 0.015  # largest component of the strains that the surrogate is made for
ACCEPTED = 2e-3  # estimated error of the stress, relative


def macro(comm, mesh=None):
    """Return the macroscopic problem, on the mesh that comes with spon or another one of its kind."""
    membrane = spon.read_mesh(mesh or spon.find_mesh("cook.geo"), comm)
    space = spon.lagrange(membrane, degree=2, components=2)
    return spon.TwoScaleProblem(membrane, space, {"left": 0.0}, {"right": TRACTION}, load_steps=2)


def coarse_cell(comm):
    """Return the cell, on a mesh for a quick example."""
    text = spon.find_mesh("rve3.geo").read_text()
    if comm.rank == 0:
        with open("cell.geo", "w") as file:
            file.write(text.replace("n = 12;", "n = 4;"))
    comm.barrier()
    return spon.read_rve("cell.geo", {"matrix": MATRIX, "inclusion": INCLUSION}, comm=comm)
