"""What a processor needs to know of a mesh and its spaces, as plain arrays in one HDF5 file.

Made by `spon.fem` with DOLFINx; read anywhere with numpy, scipy and h5py alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
from spon.level import Level, Reference
from spon.projection import ZeroMean
from spon.space import Space
from spon.storage import MatrixReader, check, open_hdf5, seal, write_csr

__all__ = ["FORMAT", "Discretisation", "fingerprint"]

FORMAT = 2

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Discretisation:
    """Spaces, constraint and hierarchy of an operator-learning problem, frozen as arrays.

    The way of a prediction: inputs → nodal features (`Space.features`) → processor → nodal values y
    of the latent fields → u = D (w ⊙ y) + u_g, admissible whatever y is.

    Args:
        levels: finest first; the nodes of the first carry the features.
        inputs: space of each input, by name.
        output: space of the solution.
        constraint: u = Z û + u_g; for Lagrange outputs u_g is the discrete harmonic extension of the
            boundary data.
        decoder: (DoFs, nodes · latent components) D, whose range lies in that of Z; the latent components
            of a node are adjacent. The latent fields are those of the output, or its potentials.
        cutoff: (nodes, latent components) w in [0, 1], zero exactly where the field is prescribed: the
            solution of −Δw = 1 scaled to maximum 1 (identically 1 where nothing is).
        boundaries: named boundary → (facets, corners) nodes of the mesh of the first level.
        boundary_dofs: named boundary → DoFs of the output there.
        fingerprint: SHA-256 of input meshes, elements and constraint data.
        zero_mean: subtracted from what the decoder gives, for a solution, or a pressure, that is
            determined up to a constant.
    """

    levels: tuple[Level, ...]
    inputs: dict[str, Space]
    output: Space
    constraint: Constraint
    decoder: sp.csr_array
    cutoff: Array
    boundaries: dict[str, Array]
    boundary_dofs: dict[str, Array]
    fingerprint: str
    zero_mean: ZeroMean | None = None

    @property
    def dofs(self) -> int:
        """Number of DoFs of the output space."""
        return self.output.dofs

    @property
    def input(self) -> Space:
        """Space of the first input."""
        return next(iter(self.inputs.values()))

    @property
    def kind(self) -> str:
        """Inputs, output and cells in words, without the mesh: equal where a network may cross meshes."""
        inputs = ", ".join(f"{name} ({space.element})" for name, space in self.inputs.items())
        cells, latent = self.levels[0].reference.cell_type, self.cutoff.shape[1]
        return f"{inputs} > {self.output.element} by {latent} latent fields on {cells} cells"

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

    def with_boundary_data(self, values: Array | Mapping[str, Array], boundary: str | None = None) -> Array:
        """Return u_g of samples with boundary data of their own.

        Args:
            values: (samples, n) prescribed values, in the order of `boundary_dofs[boundary]`, or of the
                fixed DoFs of the constraint if no boundary is named; or boundary → such values.
            boundary: whose values change; the others keep theirs.

        Returns:
            (samples, DoFs): the extension of least seminorm, Zᵀ K u_g = 0 (harmonic for Lagrange).
            K is factorised at the first call.

        Raises:
            SponError: an unknown boundary, DoFs there that are not fixed, wrong number of values.
        """
        data: Any = values
        if not isinstance(values, Mapping):
            data = {boundary: values}
        samples = {len(v) for v in data.values()}
        if len(samples) != 1:
            raise SponError(f"boundary data of {sorted(samples)} samples; allowed: as many for each boundary")
        out = np.tile(np.where(self.constraint.fixed, self.constraint.shift, 0.0), (samples.pop(), 1))
        for name, given in data.items():
            where = self._prescribed(name)
            if np.ndim(given) != 2 or np.shape(given)[1] != len(where):
                raise SponError(f"boundary data of shape {np.shape(given)}; allowed: (samples, {len(where)})")
            out[:, where] = given
        Z, solve = self._extension
        out -= (Z @ solve(Z.T @ (self.output.stiffness @ out.T))).T
        return out

    def boundary_data_adjoint(self, dual: Array, boundaries: Sequence[str]) -> dict[str, Array]:
        """Apply the transpose of `with_boundary_data`, for gradients in the boundary data.

        Args:
            dual: (samples, DoFs) derivative in u_g.
            boundaries: whose data vary, in the order in which `with_boundary_data` got them.

        Returns:
            boundary → (samples, n) derivative in its data.
        """
        Z, solve = self._extension
        out = dual - (self.output.stiffness @ (Z @ solve(Z.T @ dual.T))).T
        last = np.full(self.dofs, -1)  # where boundaries meet, the last one prescribes
        for number, name in enumerate(boundaries):
            last[self._prescribed(name)] = number
        places = {name: self._prescribed(name) for name in boundaries}
        return {name: np.where(last[w] == k, out[:, w], 0.0) for k, (name, w) in enumerate(places.items())}

    def _prescribed(self, boundary: str | None) -> Array:
        """Return the DoFs whose values a boundary prescribes; all that are fixed for None."""
        if boundary is None:
            return np.flatnonzero(self.constraint.fixed)
        if boundary not in self.boundary_dofs:
            allowed = ", ".join(f"'{name}'" for name in self.boundary_dofs) or "none"
            raise SponError(f"boundary '{boundary}'; allowed: {allowed}")
        where = self.boundary_dofs[boundary]
        free = int(np.count_nonzero(~self.constraint.fixed[where]))
        if free:
            raise SponError(f"{free} of {len(where)} DoFs on boundary '{boundary}' are not prescribed")
        return where

    @cached_property
    def _extension(self) -> Any:
        """The columns of Z that K couples to fixed DoFs, and the inverse of ZᵀKZ there."""
        import scipy.sparse.linalg as spla
        from scipy.sparse.csgraph import connected_components

        Z, K = self.constraint.Z, self.output.stiffness
        reduced = sp.csr_array(Z.T @ K @ Z)
        reduced.data[np.abs(reduced.data) < 1e-14 * np.abs(reduced.data).max(initial=0.0)] = 0.0
        reduced.eliminate_zeros()
        label = connected_components(reduced, directed=False)[1]
        touched = np.flatnonzero(abs(Z.T @ K[:, np.flatnonzero(self.constraint.fixed)]).sum(axis=1))
        kept = np.flatnonzero(np.isin(label, label[touched]))
        return sp.csr_array(Z[:, kept]), spla.factorized(sp.csc_array(reduced[kept][:, kept]))

    def save(self, path: str | Path) -> None:
        """Write an HDF5 file; the name appears when the file is complete.

        Layout (sparse matrices are groups of `indptr`, `indices` and `data` with the attribute `shape`;
        one that serves twice is stored once and linked): attributes `format`, `fingerprint`, `checksum`
        (SHA-256 of everything else); `Z`, `shift`, `decoder`, `cutoff`; `levels/0`, … from the finest with
        `points`, `cells`, `mass`, `stiffness`, `fixed`, `prolongation`, `reference` and, where the
        geometry has other nodes, `mesh`; `output` and `inputs/0`, … with `mass`, `stiffness`, `features`,
        `interpolation`, `energy`, `members` and the attributes `element`, `components` (and `name` of an
        input); `boundaries/0`, … and `boundary_dofs/0`, … with the attribute `name`; `zero_mean`.

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
        group["cutoff"], group["shift"] = self.cutoff, self.constraint.shift
        write_csr(group, "Z", self.constraint.Z)
        write_csr(group, "decoder", self.decoder)
        if self.zero_mean is not None:
            group["zero_mean/weights"] = self.zero_mean.weights
            group["zero_mean/constant"] = self.zero_mean.constant
        for kind, named in (("boundaries", self.boundaries), ("boundary_dofs", self.boundary_dofs)):
            for number, (name, numbers) in enumerate(named.items()):
                group[f"{kind}/{number}"] = numbers
                group[f"{kind}/{number}"].attrs["name"] = name  # may hold a slash
        known: dict[int, h5py.Group] = {}
        for number, level in enumerate(self.levels):
            inner = group.create_group(f"levels/{number}")
            _write_level(inner, level)
            known |= {id(level.mass): inner["mass"], id(level.stiffness): inner["stiffness"]}
        self.output.write(group.create_group("output"), known)
        for number, (name, space) in enumerate(self.inputs.items()):
            inner = group.create_group(f"inputs/{number}")
            inner.attrs["name"] = name
            space.write(inner, known)
        seal(group)

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
        check(group, "discretisation")
        matrices = MatrixReader()
        try:
            levels: list[Level] = []
            for number in range(len(group["levels"])):
                levels.append(_read_level(group["levels"][str(number)], levels, matrices))
            constraint = Constraint(matrices.read(group, "Z"), group["shift"][()])
            spaces = [group["inputs"][str(i)] for i in range(len(group["inputs"]))]
            return cls(
                tuple(levels),
                {str(s.attrs["name"]): Space.read(s, matrices) for s in spaces},
                Space.read(group["output"], matrices),
                constraint,
                matrices.read(group, "decoder"),
                group["cutoff"][()],
                _read_named(group, "boundaries"),
                _read_named(group, "boundary_dofs"),
                str(group.attrs["fingerprint"]),
                ZeroMean(*(group[f"zero_mean/{n}"][()] for n in ("weights", "constant")))
                if "zero_mean" in group
                else None,
            )
        except (KeyError, OSError, ValueError) as error:
            raise SponError(f"{where}: incomplete or damaged discretisation: {error}") from error


def _read_named(group: h5py.Group, kind: str) -> dict[str, Array]:
    items = [group[kind][str(number)] for number in range(len(group.get(kind, {})))]
    return {str(item.attrs["name"]): item[()] for item in items}


def _write_level(group: h5py.Group, level: Level) -> None:
    group["points"], group["cells"], group["fixed"] = level.points, level.cells, level.fixed
    write_csr(group, "mass", level.mass)
    write_csr(group, "stiffness", level.stiffness)
    if level.prolongation is not None:
        write_csr(group, "prolongation", level.prolongation)
    if level.mesh is not None:
        group["mesh/points"], group["mesh/cells"] = level.mesh
    group.attrs["algebraic"] = level.finer is not None
    level.reference.write(group.create_group("reference"))


def _read_level(group: h5py.Group, finer: list[Level], matrices: MatrixReader) -> Level:
    return Level(
        group["points"][()],
        group["cells"][()],
        matrices.read(group, "mass"),
        matrices.read(group, "stiffness"),
        group["fixed"][()],
        matrices.find(group, "prolongation"),
        Reference.read(group["reference"]),
        (group["mesh/points"][()], group["mesh/cells"][()]) if "mesh" in group else None,
        finer[-1] if group.attrs["algebraic"] else None,
    )


def fingerprint(meshes: list[tuple[Array, Array]], description: str, constraint: Constraint) -> str:
    """Return the SHA-256 of what was put in, never of assembled values.

    Args:
        meshes: points and cells of each input mesh.
        description: of levels and elements, in words.
        constraint: fixed DoFs and the values there count; the extension inside does not, since it
            comes from a solve.
    """
    digest = hashlib.sha256(f"spon format {FORMAT}; {description}".encode())
    fixed = np.flatnonzero(constraint.fixed)
    parts: list[tuple[Array, str]] = []
    for points, cells in meshes:
        parts += [(points, "<f8"), (cells, "<i8")]
    Z = constraint.Z
    parts += [(fixed, "<i8"), (constraint.shift[fixed], "<f8"), (Z.indptr, "<i8"), (Z.indices, "<i8")]
    for array, dtype in parts:
        digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return digest.hexdigest()
