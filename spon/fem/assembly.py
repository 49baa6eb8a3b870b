"""Spaces on tagged meshes, and assembly of forms without boundary conditions."""

from __future__ import annotations

from typing import Any

from dolfinx import fem
from dolfinx.fem import petsc
from petsc4py import PETSc

from spon.fem.mesh import TaggedMesh

__all__ = ["assembled", "assembled_vector", "lagrange"]


def lagrange(mesh: TaggedMesh, degree: int = 1, components: int = 1) -> Any:
    """Return a continuous Lagrange space on a mesh.

    Args:
        mesh: of any kind of cell.
        degree: ≥ 1.
        components: 1 for a scalar, else a vector of this length.
    """
    return fem.functionspace(mesh.dolfinx, ("Lagrange", degree, *([(components,)] if components > 1 else [])))


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
