"""Representative volume elements as plain arrays: what a file holds, and what needs no DOLFINx."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from spon.errors import SponError
from spon.files import replacing
from spon.multiscale.materials import Material, describe_material, make_material
from spon.multiscale.voigt import require_strain
from spon.storage import MatrixReader, check, open_hdf5, seal, write_csr

if TYPE_CHECKING:
    from spon.multiscale.rve_solver import RVESolution, RVESolver

__all__ = ["RVE"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_FORMAT = "spon RVE 1"
_ARRAYS = (
    "cell_nodes",
    "gradients",
    "cell_weights",
    "cell_phases",
    "node_coordinates",
    "points",
    "mesh_points",
    "mesh_cells",
)
# (component of strain, direction of the derivative, component of displacement), engineering Voigt
_STRAINS = {
    2: ((0, 0, 0), (1, 1, 1), (2, 1, 0), (2, 0, 1)),
    3: (
        (0, 0, 0),
        (1, 1, 1),
        (2, 2, 2),
        (3, 2, 1),
        (3, 1, 2),
        (4, 2, 0),
        (4, 0, 2),
        (5, 1, 0),
        (5, 0, 1),
    ),
}


@dataclass(frozen=True)
class RVE:
    """A periodic cell: strain at a point = macroscopic strain + B Z û.

    The DoFs are the components of the displacement fluctuation at nodes, those of a node adjacent. A point is
    a quadrature point; points go cell by cell. Made by `spon.read_rve` or `RVE.load`.

    Args:
        names: of the phases.
        materials: law of each phase.
        cell_nodes: (cells, nodes of a cell).
        gradients: (cells, points of a cell, nodes of a cell, d) of the shape functions.
        cell_weights: (cells, points of a cell) quadrature weights with the Jacobian.
        cell_phases: (cells,) place of each cell's phase in `names`.
        Z: (dofs, free) periodic fluctuations; one node is held, so that no translation is left.
        node_coordinates: (nodes, d) of the displacement.
        points: (points, d) coordinates of the quadrature points.
        mesh_points, mesh_cells, cell_type: the mesh, as `spon.MeshArrays` has it.
        degree: of the displacement.
        source: file of the mesh, for messages.
    """

    names: tuple[str, ...]
    materials: tuple[Material, ...]
    cell_nodes: Integers
    gradients: Floats
    cell_weights: Floats
    cell_phases: Integers
    Z: sp.csr_array
    node_coordinates: Floats
    points: Floats
    mesh_points: Floats
    mesh_cells: Integers
    cell_type: str
    degree: int
    source: str = "RVE"

    @property
    def dimension(self) -> int:
        """d, 2 (plane strain) or 3."""
        return int(self.gradients.shape[3])

    @property
    def strain_size(self) -> int:
        """Components of a strain, n: 3 or 6."""
        return self.dimension * (self.dimension + 1) // 2

    @property
    def dofs(self) -> int:
        """DoFs of the displacement fluctuation, periodic images counted."""
        return int(self.Z.shape[0])

    @cached_property
    def weights(self) -> Floats:
        """(points,) quadrature weights; their sum is `volume`."""
        return self.cell_weights.ravel()

    @cached_property
    def phases(self) -> Integers:
        """(points,) place of each point's phase in `names`."""
        return np.repeat(self.cell_phases, self.cell_weights.shape[1])

    @cached_property
    def volume(self) -> float:
        """Area or volume of the cell."""
        return float(self.cell_weights.sum())

    @cached_property
    def cell_dofs(self) -> Integers:
        """(cells, DoFs of a cell)."""
        d = self.dimension
        return (d * self.cell_nodes[:, :, None] + np.arange(d)).reshape(len(self.cell_nodes), -1)

    @cached_property
    def cell_operators(self) -> Floats:
        """(cells, points of a cell, n, DoFs of a cell) strains of a cell's DoFs."""
        cells, points, nodes, d = self.gradients.shape
        out = np.zeros((cells, points, self.strain_size, nodes, d))
        for component, direction, displacement in _STRAINS[d]:
            out[:, :, component, :, displacement] = self.gradients[..., direction]
        return out.reshape(cells, points, self.strain_size, nodes * d)

    @cached_property
    def strain_operator(self) -> sp.csr_array:
        """B, (points · n, dofs): strains of the fluctuation, the components of a point adjacent."""
        cells, points, n, k = self.cell_operators.shape
        rows = np.repeat(np.arange(cells * points * n), k)
        columns = np.repeat(self.cell_dofs, points * n, axis=0).ravel()
        B = sp.csr_array(
            (self.cell_operators.ravel(), (rows, columns)), shape=(cells * points * n, self.dofs)
        )
        B.eliminate_zeros()
        return B

    def volume_fraction(self, phase: str) -> float:
        """Return the share of a phase in the volume.

        Raises:
            SponError: there is no such phase.
        """
        if phase not in self.names:
            raise SponError(f"phase '{phase}' of {self.source}; allowed: {', '.join(self.names)}")
        there = self.phases == self.names.index(phase)
        return float(self.weights[there].sum() / self.volume)

    def strains(self, macro: Tensor, fluctuation: Tensor) -> Tensor:
        """Return the strains at all points, (batch, points, n).

        Args:
            macro: (batch, n) macroscopic strains, float64.
            fluctuation: (batch, dofs) displacement fluctuations.

        Raises:
            SponError: another shape.
        """
        require_strain(macro, self.strain_size)
        if macro.dim() != 2 or fluctuation.shape != (len(macro), self.dofs):
            raise SponError(
                f"strains {tuple(macro.shape)} with fluctuations {tuple(fluctuation.shape)}; allowed: "
                f"(batch, {self.strain_size}) and (batch, {self.dofs})"
            )
        local = self.strain_operator @ fluctuation.numpy().T
        shape = (len(macro), len(self.weights), self.strain_size)
        return macro[:, None] + torch.as_tensor(np.ascontiguousarray(local.T)).reshape(shape)

    def stresses(self, strains: Tensor) -> Tensor:
        """Return the stresses, (batch, points, n), of strains (batch, points, n)."""
        return self._at_points(strains, lambda material, strain: material.stress(strain))

    def potentials(self, strains: Tensor) -> Tensor:
        """Return the potentials, (batch, points), of strains (batch, points, n)."""
        return self._at_points(strains, lambda material, strain: material.potential(strain)[:, None])[..., 0]

    def average(self, values: Tensor) -> Tensor:
        """Return the mean over the volume, (batch, n), of values (batch, points, n)."""
        return torch.einsum("p,bpi->bi", torch.as_tensor(self.weights), values) / self.volume

    def _at_points(self, strains: Tensor, law: Callable[[Material, Tensor], Tensor]) -> Tensor:
        require_strain(strains, self.strain_size)
        out = None
        for material, where in zip(self.materials, self.phase_points, strict=True):
            chosen = strains[:, where].reshape(-1, self.strain_size)
            values = law(material, chosen).reshape(len(strains), len(where), -1)
            if out is None:
                out = strains.new_empty(*strains.shape[:2], values.shape[-1])
            out[:, where] = values
        assert out is not None
        return out

    @cached_property
    def phase_points(self) -> tuple[Tensor, ...]:
        """Numbers of the points of each phase."""
        return tuple(torch.as_tensor(np.flatnonzero(self.phases == k)) for k in range(len(self.names)))

    @cached_property
    def solver(self) -> RVESolver:
        """Newton's method on this cell; it keeps factorisations for the next solve."""
        from spon.multiscale.rve_solver import RVESolver

        return RVESolver(self)

    def solve(self, macro_strain: Tensor, start: Tensor | None = None) -> RVESolution:
        """Find the fluctuations in equilibrium, one sample after the other.

        Args:
            macro_strain: (batch, n) macroscopic strains, float64.
            start: (batch, dofs) fluctuations to start from; None: those of the laws at zero strain.

        Raises:
            SponError: another shape; no equilibrium found (which sample, its strain and residual).
        """
        return self.solver.solve(macro_strain, start)

    def sensitivities(self, macro_strain: Tensor, fluctuation: Tensor) -> Tensor:
        """Return how fluctuations in equilibrium follow the macroscopic strain, (batch, dofs, n).

        Args:
            macro_strain: (batch, n) macroscopic strains, float64.
            fluctuation: (batch, dofs) in equilibrium, of `solve`.
        """
        pairs = zip(macro_strain, fluctuation, strict=True)
        return torch.stack([self.solver.sensitivity(macro, local) for macro, local in pairs])

    def save(self, path: str | Path) -> None:
        """Write an HDF5 file that `load` reads where there is no DOLFINx.

        Raises:
            SponError: a law that is not one of spon's own; the path cannot be written.
        """
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            self.write_to(file)

    def write_to(self, file: h5py.File) -> None:
        """Add the cell to an HDF5 file that is being written.

        Raises:
            SponError: a law that is not one of spon's own.
        """
        laws = [describe_material(material) for material in self.materials]
        group = file.create_group("rve")
        group.attrs["format"] = _FORMAT
        group.attrs["phases"] = json.dumps(dict(zip(self.names, laws, strict=True)))
        group.attrs["cell_type"], group.attrs["degree"] = self.cell_type, self.degree
        group.attrs["source"] = self.source
        for name in _ARRAYS:
            group[name] = getattr(self, name)
        write_csr(group, "Z", self.Z)
        seal(group)

    @classmethod
    def load(cls, path: str | Path) -> RVE:
        """Read what `save` wrote.

        Raises:
            SponError: no such file, another kind of file, or an altered one.
        """
        with open_hdf5(path) as file:
            found = file["rve"].attrs.get("format") if "rve" in file else None
            if found != _FORMAT:
                raise SponError(f"{path}: holds no RVE that can be read ({found}); allowed: {_FORMAT}")
            group = file["rve"]
            check(group, "RVE")
            laws = json.loads(group.attrs["phases"])
            return cls(
                names=tuple(laws),
                materials=tuple(make_material(**law) for law in laws.values()),
                Z=MatrixReader().read(group, "Z"),
                cell_type=str(group.attrs["cell_type"]),
                degree=int(group.attrs["degree"]),
                source=str(group.attrs["source"]),
                **{name: group[name][()] for name in _ARRAYS},
            )

    def with_materials(self, materials: Sequence[Material]) -> RVE:
        """Return the same cell with other laws, in the order of `names`."""
        return replace(self, materials=tuple(materials))
