"""Every difference between DOLFINx 0.9, 0.10 and 0.11, and only that."""

from __future__ import annotations

from typing import Any

from spon.errors import MissingDependencyError, SponError

__all__ = [
    "OLDEST_DOLFINX",
    "check_scalar",
    "collapse",
    "create_mesh",
    "geometry_dofmap",
    "gmsh_cell_permutation",
    "require_dolfinx",
]

OLDEST_DOLFINX = (0, 9)

_INSTALL = (
    "conda (`conda install -c conda-forge fenics-dolfinx`), the dolfinx/dolfinx docker image, or "
    "`./dev` in a checkout of spon"
)


def _version() -> tuple[int, int]:
    import dolfinx

    major, minor = dolfinx.__version__.split(".")[:2]
    return int(major), int(minor)


def require_dolfinx() -> None:
    """Check that DOLFINx ≥ 0.9 with a real PETSc is there.

    Raises:
        MissingDependencyError: DOLFINx, petsc4py or mpi4py is missing or too old.
        SponError: PETSc was built for complex scalars.
    """
    try:
        import dolfinx
        import mpi4py  # noqa: F401
        from petsc4py import PETSc
    except ImportError as error:
        raise MissingDependencyError(
            f"spon.fem needs DOLFINx >= 0.9 with petsc4py and mpi4py ({error}); get it with {_INSTALL}"
        ) from error
    if _version() < OLDEST_DOLFINX:
        raise MissingDependencyError(
            f"spon.fem needs DOLFINx >= 0.9; found {dolfinx.__version__}; get it with {_INSTALL}"
        )
    check_scalar(PETSc.ScalarType)


def check_scalar(scalar: type) -> None:
    """Refuse a PETSc whose scalars are not float64.

    Args:
        scalar: numpy type of a PETSc scalar.

    Raises:
        SponError: `scalar` is not float64.
    """
    name = getattr(scalar, "__name__", str(scalar))
    if name != "float64":
        raise SponError(
            f"spon needs PETSc with real double scalars (float64); this PETSc has {name}: choose the "
            "real build (conda: petsc=*=real*; docker: source dolfinx-real-mode; Debian: "
            "PETSC_DIR=/usr/lib/petscdir/petsc-real)"
        )


def create_mesh(comm: Any, cells: Any, points: Any, element: Any, destinations: Any) -> Any:
    """Create a DOLFINx mesh; 0.10 swapped the order of points and element.

    Args:
        comm: communicator.
        cells: (cells, nodes) int64, on this rank.
        points: (points, gdim) float64, on this rank.
        element: coordinate element.
        destinations: the ranks that each of these cells goes to, and (cells + 1,) offsets, int32.
    """
    from dolfinx import graph, mesh

    def partitioner(*_: Any) -> Any:
        ranks = graph.adjacencylist(*destinations)
        return ranks if _version() < (0, 10) else ranks._cpp_object

    chosen = None if comm.size == 1 else partitioner
    if _version() < (0, 10):
        return mesh.create_mesh(comm, cells, points, element, chosen)
    return mesh.create_mesh(comm, cells, element, points, chosen)


def gmsh_cell_permutation(cell_type: Any, nodes: int) -> Any:
    """Return p such that `gmsh_cells[:, p]` are in DOLFINx's order; 0.10 renamed the module.

    Args:
        cell_type: `dolfinx.mesh.CellType`.
        nodes: nodes in a cell.
    """
    if _version() < (0, 10):
        from dolfinx.io.gmshio import cell_perm_array
    else:
        from dolfinx.io.gmsh import cell_perm_array
    return cell_perm_array(cell_type, nodes)


def geometry_dofmap(mesh: Any) -> Any:
    """Return the geometry nodes of each cell, (cells, nodes) int32; 0.11 renamed the property.

    Args:
        mesh: `dolfinx.mesh.Mesh` with one kind of cell.
    """
    if _version() < (0, 11):
        return mesh.geometry.dofmap
    return mesh.geometry.dofmaps[0]


def collapse(subspace: Any) -> tuple[Any, Any]:
    """Return a member of a mixed space as a space of its own, and the parent's number of each DoF.

    Args:
        subspace: `space.sub(i)`. 0.11 returns the numbers in a list, one array for each kind of cell.
    """
    import numpy as np

    space, parents = subspace.collapse()
    return space, np.asarray(parents).reshape(-1)
