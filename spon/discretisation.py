"""What a processor needs to know of a mesh and its spaces, as plain arrays in one HDF5 file.

Made by `spon.fem` with DOLFINx; read anywhere with numpy, scipy and h5py alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from spon.constraint import Constraint
from spon.errors import SponError
from spon.files import replacing

__all__ = ["FORMAT", "Discretisation", "Level", "fingerprint"]

FORMAT = 1

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Level:
    """One mesh of a hierarchy with its first-order Lagrange space, in canonical order.

    Args:
        points: (nodes, gdim) float64.
        cells: (cells, gdim + 1) int64, simplices.
        mass: (nodes, nodes) L2 Gram matrix ∫ φ_i φ_j.
        stiffness: (nodes, nodes) H1-seminorm Gram matrix ∫ ∇φ_i·∇φ_j.
        fixed: (nodes,) bool, nodes where the output is prescribed.
        prolongation: (nodes, nodes of the next coarser level), None on the coarsest.
    """

    points: Array
    cells: Array
    mass: sp.csr_array
    stiffness: sp.csr_array
    fixed: Array
    prolongation: sp.csr_array | None

    @cached_property
    def lumped_mass(self) -> Array:
        """(nodes,) row sums of the mass matrix."""
        return np.asarray(self.mass.sum(axis=1)).ravel()

    @cached_property
    def volumes(self) -> Array:
        """(cells,) measure of each cell."""
        edges = self.points[self.cells[:, 1:]] - self.points[self.cells[:, :1]]
        return np.abs(np.linalg.det(edges)) / (2.0 if edges.shape[1] == 2 else 6.0)

    @cached_property
    def gradient(self) -> sp.csr_array:
        """(gdim · cells, nodes): ∂u/∂x_d on cell c is row d · cells + c, exact for the space."""
        corners = self.points[self.cells]
        m, k, gdim = corners.shape
        affine = np.concatenate([np.ones((m, k, 1)), corners], axis=2)
        slopes = np.linalg.inv(affine)[:, 1:, :]  # (cell, direction, vertex)
        rows = np.arange(gdim)[None, :, None] * m + np.arange(m)[:, None, None]
        rows = np.broadcast_to(rows, slopes.shape)
        columns = np.broadcast_to(self.cells[:, None, :], slopes.shape)
        shape = (gdim * m, len(self.points))
        out = sp.csr_array((slopes.ravel(), (rows.ravel(), columns.ravel())), shape=shape)
        out.sort_indices()
        return out

    @cached_property
    def cell_average(self) -> sp.csr_array:
        """(cells, nodes): mean over the cell of a function of the space."""
        m, k = self.cells.shape
        rows = np.repeat(np.arange(m), k)
        entries = (np.full(m * k, 1.0 / k), (rows, self.cells.ravel()))
        return sp.csr_array(entries, shape=(m, len(self.points)))


@dataclass(frozen=True)
class Discretisation:
    """Spaces, constraint and hierarchy of an operator-learning problem, frozen as arrays.

    Input and output live in the first-order Lagrange space of the finest level.

    Args:
        levels: finest first.
        constraint: u = Z û + u_g on the finest level; u_g is the discrete harmonic extension of
            the boundary data.
        cutoff: (nodes,) w in [0, 1], zero exactly at the fixed DoFs: the solution of −Δw = 1
            scaled to maximum 1 (identically 1 without fixed DoFs).
        boundaries: named boundary → (facets, gdim) vertices.
        fingerprint: SHA-256 of input mesh, element and constraint data.
    """

    levels: tuple[Level, ...]
    constraint: Constraint
    cutoff: Array
    boundaries: dict[str, Array]
    fingerprint: str

    @property
    def dofs(self) -> int:
        """Number of DoFs of the output space."""
        return len(self.levels[0].points)

    def require(self, other: str, what: str) -> None:
        """Refuse an object that was made with another discretisation.

        Args:
            other: fingerprint that the object carries.
            what: name of the object, for the message.

        Raises:
            SponError: the fingerprints differ.
        """
        if other != self.fingerprint:
            raise SponError(
                f"{what} belongs to another discretisation (fingerprint {other[:12]}…); "
                f"this one is {self.fingerprint[:12]}…"
            )

    def save(self, path: str | Path) -> None:
        """Write an HDF5 file; the name appears when the file is complete.

        Args:
            path: file to write or replace.
        """
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            self.write(file)

    @classmethod
    def load(cls, path: str | Path) -> Discretisation:
        """Read an HDF5 file; needs neither DOLFINx nor MPI.

        Args:
            path: a discretisation or a data set.

        Raises:
            SponError: no such file, not HDF5, of another format version, or altered.
        """
        with open_hdf5(path) as file:
            return cls.read(file.get("discretisation", file))

    def write(self, group: h5py.Group) -> None:
        """Write into an open HDF5 group."""
        group.attrs["format"] = FORMAT
        group.attrs["fingerprint"] = self.fingerprint
        group["cutoff"] = self.cutoff
        group["shift"] = self.constraint.shift
        _write_csr(group, "Z", self.constraint.Z)
        for number, (name, facets) in enumerate(self.boundaries.items()):
            group[f"boundaries/{number}"] = facets
            group[f"boundaries/{number}"].attrs["name"] = name  # may hold a slash
        for number, level in enumerate(self.levels):
            inner = group.create_group(f"levels/{number}")
            inner["points"], inner["cells"], inner["fixed"] = level.points, level.cells, level.fixed
            _write_csr(inner, "mass", level.mass)
            _write_csr(inner, "stiffness", level.stiffness)
            if level.prolongation is not None:
                _write_csr(inner, "prolongation", level.prolongation)

    @classmethod
    def read(cls, group: h5py.Group) -> Discretisation:
        """Read from an open HDF5 group.

        Raises:
            SponError: no discretisation there, another format version, or altered content.
        """
        where = group.file.filename
        if "fingerprint" not in group.attrs:
            raise SponError(f"{where}: holds no discretisation")
        if group.attrs["format"] != FORMAT:
            raise SponError(f"{where}: discretisation format {group.attrs['format']}; allowed: {FORMAT}")
        try:
            levels = tuple(
                Level(
                    inner["points"][()],
                    inner["cells"][()],
                    _read_csr(inner, "mass"),
                    _read_csr(inner, "stiffness"),
                    inner["fixed"][()],
                    _read_csr(inner, "prolongation") if "prolongation" in inner else None,
                )
                for inner in (group["levels"][str(i)] for i in range(len(group["levels"])))
            )
            constraint = Constraint(_read_csr(group, "Z"), group["shift"][()])
            stored = group.get("boundaries", {}).values()
            boundaries = {str(facets.attrs["name"]): facets[()] for facets in stored}
            cutoff = group["cutoff"][()]
        except (KeyError, OSError, ValueError) as error:
            raise SponError(f"{where}: incomplete or damaged discretisation: {error}") from error
        promised = str(group.attrs["fingerprint"])
        made = fingerprint(levels[-1].points, levels[-1].cells, len(levels), constraint)
        if made != promised:
            raise SponError(f"{where}: the discretisation was altered: its fingerprint does not fit")
        return cls(levels, constraint, cutoff, boundaries, promised)


def fingerprint(points: Array, cells: Array, levels: int, constraint: Constraint) -> str:
    """Return the SHA-256 of what was put in, never of assembled values.

    Args:
        points: (nodes, gdim) of the input mesh, the coarsest level.
        cells: (cells, vertices) of the input mesh.
        levels: number of nested levels.
        constraint: fixed DoFs and the values there count; the extension inside does not, since it
            comes from a solve.
    """
    digest = hashlib.sha256(f"spon format {FORMAT}; P1; {levels} levels".encode())
    fixed = np.flatnonzero(constraint.fixed)
    Z = constraint.Z
    for array, dtype in (
        (points, "<f8"),
        (cells, "<i8"),
        (fixed, "<i8"),
        (constraint.shift[fixed], "<f8"),
        (Z.indptr, "<i8"),
        (Z.indices, "<i8"),
    ):
        digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return digest.hexdigest()


def open_hdf5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        SponError: no such file, or not a readable HDF5 file.
    """
    if not Path(path).exists():
        raise SponError(f"no such file: {path}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise SponError(f"{path}: not a readable HDF5 file: {error}") from error


def _write_csr(group: h5py.Group, name: str, matrix: sp.csr_array) -> None:
    inner = group.create_group(name)
    inner.attrs["shape"] = matrix.shape
    inner["indptr"] = matrix.indptr.astype(np.int64)
    inner["indices"], inner["data"] = matrix.indices.astype(np.int32), matrix.data


def _read_csr(group: h5py.Group, name: str) -> sp.csr_array:
    inner = group[name]
    parts = (inner["data"][()], inner["indices"][()], inner["indptr"][()])
    return sp.csr_array(parts, shape=tuple(inner.attrs["shape"]))
