"""Data sets from arrays on regular grids."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from mpi4py import MPI

from spon.data.dataset import Dataset
from spon.data.imports import default_levels, import_arrays
from spon.data.numeric import numeric
from spon.errors import SponError
from spon.fem import reference
from spon.fem.arrays import MeshArrays
from spon.fem.hierarchy import Hierarchy
from spon.fem.mesh import TaggedMesh

__all__ = ["Grid", "import_grid"]

Integers = npt.NDArray[np.int64]

_SIDES = ("left", "right", "bottom", "top", "front", "back")
_KINDS = {2: ("triangle", "quadrilateral"), 3: ("tetrahedron", "hexahedron")}
_COMPONENTS = 9


class Grid:
    """A box cut into equal cells, with nested coarser levels where their numbers are even.

    Sides are named left, right (x), bottom, top (y), front, back (z). Triangles and tetrahedra halve each
    cell of the grid along the same diagonal (Kuhn's subdivision).

    Args:
        counts: cells in the directions x, y[, z].
        box: x0, x1, y0, y1[, z0, z1].
        cell_type: default: "triangle" or "tetrahedron".
        levels: how often to halve the numbers; default: as long as they are even and two or more remain.

    Raises:
        SponError: a box of another dimension or without extent, another cell type, levels that the numbers
            do not allow.
    """

    def __init__(
        self,
        counts: Sequence[int],
        box: Sequence[float],
        cell_type: str | None = None,
        levels: int | None = None,
    ) -> None:
        dim = len(counts)
        limits = np.asarray(box, dtype=np.float64).reshape(-1, 2)
        if len(limits) != dim or not (limits[:, 0] < limits[:, 1]).all():
            text = ", ".join(f"{b:g}" for b in box)
            raise SponError(f"box {text}; allowed: x0, x1, y0, y1 (and z0, z1 in 3-D), the lower one first")
        kinds = _KINDS[dim]
        if cell_type not in (None, *kinds):
            raise SponError(f"cells {cell_type}; allowed in {dim}-D: {', '.join(kinds)}")
        self.counts = np.array(counts, dtype=np.int64)
        self.low, self.high = limits.T
        self.cell_type = cell_type or kinds[0]
        possible = 0
        while (self.counts % 2 ** (possible + 1) == 0).all() and (self.counts >> possible).min() >= 4:
            possible += 1
        if levels is not None and not 0 <= levels <= possible:
            text = " x ".join(map(str, counts))
            raise SponError(f"{levels} nested levels on {text} cells; allowed: 0 to {possible}")
        self.levels = possible if levels is None else levels

    def coarsest(self) -> MeshArrays:
        """Return the coarsest mesh."""
        counts = self.counts >> self.levels
        dim = len(counts)
        boxes = _lattice(counts)
        nodes = boxes[:, None, None] + _pieces(self.cell_type)  # (boxes, pieces, corners, dim)
        stride = np.cumprod([1, *(counts[:-1] + 1)])
        cells = (nodes @ stride).reshape(-1, nodes.shape[2])
        lattice = _lattice(counts + 1)
        sides = cells[:, reference.facet_corners(self.cell_type)]
        sides = sides.reshape(-1, sides.shape[2])
        at = lattice[sides]
        on = [(at[:, :, k // 2] == (counts[k // 2] if k % 2 else 0)).all(axis=1) for k in range(2 * dim)]
        t = lattice / counts
        return MeshArrays(
            points=self.low * (1.0 - t) + self.high * t,
            cells=cells,
            cell_type=self.cell_type,
            cell_tags=np.ones(len(cells), np.int32),
            facets=np.concatenate([sides[s] for s in on]),
            facet_tags=np.repeat(np.arange(1, 2 * dim + 1, dtype=np.int32), [s.sum() for s in on]),
            cell_names={"domain": 1},
            facet_names={name: k + 1 for k, name in enumerate(_SIDES[: 2 * dim])},
            source=f"grid of {' x '.join(map(str, self.counts))} cells",
        )

    def hierarchy(self, comm: MPI.Comm = MPI.COMM_SELF) -> Hierarchy:
        """Return the nested meshes, with algebraic levels below if the coarsest is large. Collective."""
        made = Hierarchy.uniform(TaggedMesh(self.coarsest(), comm), self.levels)
        return made.coarsened(default_levels(made.meshes[-1]))

    def numbers(self, places: npt.NDArray[np.float64], centred: bool) -> Integers:
        """Return the position in a flattened array (…, ny, nx) of points of the mesh.

        Args:
            places: (n, dim) nodes, or centroids of cells.
            centred: whether the array has a value for each cell of the grid.
        """
        t = (places - self.low) / (self.high - self.low) * self.counts
        index = np.floor(t).astype(np.int64) if centred else np.rint(t).astype(np.int64)
        sizes = self.counts if centred else self.counts + 1
        return np.asarray(index @ np.cumprod([1, *sizes[:-1]]), dtype=np.int64)


def import_grid(
    inputs: Mapping[str, npt.ArrayLike],
    output: tuple[str, npt.ArrayLike],
    box: Sequence[float] = (0.0, 1.0, 0.0, 1.0),
    *,
    centred: bool | Collection[str] = False,
    cell_type: str | None = None,
    levels: int | None = None,
    **options: Any,
) -> Dataset:
    """Make a data set of arrays on a regular grid. Works on this process alone.

    Values at points become first-order Lagrange functions on a mesh whose nodes are those points. Values at
    the centres of the cells of a grid become piecewise constants: the mesh has these cells (each halved, or
    cut into six, by triangles and tetrahedra, which then share a value).

    Args:
        inputs: name → (samples, ny, nx), (samples, nz, ny, nx) in 3-D, each also with components last; or
            (samples[, n]) for plain numbers. Row 0 is at y0, column 0 at x0, which are the first and the
            last point, or the outer faces of the first and the last cell.
        output: name and array.
        box: x0, x1, y0, y1 and, in 3-D, z0, z1.
        centred: whether values are at the centres of cells; or the names of the arrays where they are.
        cell_type: "triangle", "quadrilateral", "tetrahedron" or "hexahedron"; default: simplices, and
            quadrilaterals or hexahedra where all arrays are centred.
        levels: nested coarser levels; default: as many as the number of cells allows.
        options: `at`, `dirichlet`, `boundary_data`, `units`, `split`, `tolerance` of `import_arrays`.

    Raises:
        SponError: shapes that do not belong to one grid, and what `import_arrays` refuses.
    """
    name, solution = output
    given = {**inputs, name: solution}
    if len(box) not in (4, 6):
        raise SponError(f"box of {len(box)} numbers; allowed: x0, x1, y0, y1 or x0, x1, y0, y1, z0, z1")
    if not isinstance(centred, bool):
        unknown = next((n for n in centred if n not in given), None)
        if unknown is not None:
            raise SponError(f"'{unknown}' is centred; there are: {', '.join(given)}")
    names = set(given) if centred is True else set(centred or ())
    dim = len(box) // 2
    labels = {n: f"output '{n}'" if n == name else f"input '{n}'" for n in given}
    arrays = {n: numeric(labels[n], values) for n, values in given.items()}
    at = dict(options.pop("at", None) or {})
    fields = {n: a for n, a in arrays.items() if a.ndim > 1 and at.get(n) != "parameters"}
    counts = _counts(fields, labels, names, dim)
    if cell_type is None and set(fields) <= names:
        cell_type = _KINDS[dim][1]
    grid = Grid(counts, box, cell_type, levels)
    hierarchy = grid.hierarchy()
    mesh = hierarchy.finest.arrays
    where = {c: grid.numbers(mesh.centroids if c else mesh.points, c) for c in {n in names for n in fields}}
    for n, a in fields.items():
        components = a.shape[1 + dim :]
        arrays[n] = a.reshape(len(a), -1, *components)[:, where[n in names]]
        at[n] = "cells" if n in names else "nodes"
    solution = arrays.pop(name)
    ordered = {n: arrays[n] for n in inputs}
    return import_arrays(hierarchy, ordered, (name, solution), at=at, **options)


def _counts(
    fields: Mapping[str, npt.NDArray[Any]], labels: Mapping[str, str], centred: set[str], dim: int
) -> tuple[int, ...]:
    """Return the number of cells in the directions x, y[, z] that all arrays agree on."""
    axes = "nz, ny, nx" if dim == 3 else "ny, nx"
    found: dict[str, tuple[int, ...]] = {}
    for name, array in fields.items():
        shape = array.shape
        if len(shape) not in (1 + dim, 2 + dim):
            raise SponError(
                f"{labels[name]} of shape {shape}; allowed in {dim}-D: (samples, {axes}[, components]), "
                f"or at {name}=parameters for plain numbers"
            )
        if len(shape) == 2 + dim and shape[-1] > _COMPONENTS:
            raise SponError(
                f"{labels[name]} of shape {shape} would have {shape[-1]} components; allowed: {_COMPONENTS}, "
                "or a box of six numbers for a 3-D grid"
            )
        found[name] = tuple(n - (name not in centred) for n in shape[dim:0:-1])
        if min(found[name]) < 1:
            raise SponError(f"{labels[name]} of shape {shape}; allowed: two points or more in each direction")
    if not found:
        raise SponError(f"no array is on a grid; allowed: arrays of shape (samples, {axes})")
    first = next(iter(found))
    for name, counts in found.items():
        if counts != found[first]:
            texts = [" x ".join(map(str, c[::-1])) for c in (counts, found[first])]
            raise SponError(
                f"{labels[name]} has a grid of {texts[0]} cells, {labels[first]} one of {texts[1]}; "
                "allowed: the same (centred arrays have one value less in each direction)"
            )
    return found[first]


def _lattice(counts: Integers) -> Integers:
    """Return all points of integers below counts, the first direction fastest, (n, dim)."""
    grid = np.meshgrid(*(np.arange(n) for n in counts[::-1]), indexing="ij")
    return np.stack(grid[::-1], axis=-1).reshape(-1, len(counts))


def _pieces(cell_type: str) -> Integers:
    """Return the corners of the cells of a unit box, (pieces, corners, dim) of 0 and 1."""
    if cell_type in ("quadrilateral", "hexahedron"):
        return np.rint(reference.nodes(cell_type, 1)[None]).astype(np.int64)
    eye = np.eye(2 if cell_type == "triangle" else 3, dtype=np.int64)
    paths = itertools.permutations(range(len(eye)))
    return np.array([np.cumsum([0 * eye[0], *eye[list(p)]], axis=0) for p in paths])
