"""UFL forms to PETSc objects, without boundary conditions."""

from __future__ import annotations

from typing import Any

from dolfinx import fem
from dolfinx.fem import petsc
from petsc4py import PETSc

__all__ = ["assembled", "assembled_vector"]


def assembled(form: Any) -> PETSc.Mat:
    """Assemble a bilinear form without boundary conditions. Collective."""
    matrix = petsc.assemble_matrix(fem.form(form))
    matrix.assemble()
    return matrix


def assembled_vector(form: Any) -> PETSc.Vec:
    """Assemble a linear form, ghosts accumulated. Collective."""
    vector = petsc.assemble_vector(fem.form(form))
    vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
    return vector
