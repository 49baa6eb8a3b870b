"""Read mesh files into plain arrays."""

from __future__ import annotations

from pathlib import Path

from spon.errors import SponError
from spon.fem.arrays import MeshArrays
from spon.fem.gmsh_reader import read_gmsh
from spon.fem.meshio_reader import read_meshio, suffixes
from spon.fem.raw import to_arrays

__all__ = ["GMSH_SUFFIXES", "read_arrays"]

GMSH_SUFFIXES = (".geo", ".msh")


def read_arrays(path: str | Path, drop_unused: bool | None = None) -> MeshArrays:
    """Read a mesh file, on the calling process alone.

    Triangles, quadrilaterals, tetrahedra or hexahedra of first or second order; serendipity cells (8 and 20
    nodes) are completed; z of a mesh in a plane z = const is dropped.

    Args:
        path: `.msh` (2.2 or 4.1), `.geo`, which gmsh meshes first, or what meshio reads: `.xdmf`, `.vtu`,
            `.vtk`, `.inp`, `.med`, ….
        drop_unused: drop points that belong to no cell instead of refusing them. Default: for gmsh's
            files, where the points that define the geometry are among them.

    Returns:
        The mesh in the order of the file, with its physical names. Files other than gmsh's that have no
        groups of cells get the one group "domain".

    Raises:
        SponError: no such file, unknown suffix, unreadable content, no physical groups in a file of gmsh, a
            cell type that spon cannot use, points that belong to no cell, or what `MeshArrays` refuses.
        MissingDependencyError: gmsh's Python module or meshio is missing.
    """
    path = Path(path)
    if not path.exists():
        raise SponError(f"no such mesh file: {path}")
    known = (*GMSH_SUFFIXES, *(s for s in suffixes() if s not in GMSH_SUFFIXES))
    if path.suffix not in known:
        raise SponError(f"{path}: unknown mesh format '{path.suffix}'; allowed: {', '.join(known)}")
    if not path.is_file():
        raise SponError(f"{path}: is not a file")
    from_gmsh = path.suffix in GMSH_SUFFIXES
    raw = read_gmsh(path) if from_gmsh else read_meshio(path)
    return to_arrays(raw, from_gmsh if drop_unused is None else drop_unused)
