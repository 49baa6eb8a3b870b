"""Samples from files of fields on meshes: a file for each sample, or the steps of a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.data.matching import match_cells, match_nodes
from spon.data.points import Match
from spon.data.series import plane, same_mesh, steps
from spon.errors import SponError
from spon.fem.arrays import MeshArrays
from spon.fem.mesh import TaggedMesh
from spon.fem.meshio_reader import from_meshio
from spon.fem.raw import to_arrays

__all__ = ["Fields", "mesh_of", "read_fields"]

Array = npt.NDArray[Any]


@dataclass
class Fields:
    """Arrays in the order of a mesh.

    Args:
        arrays: name → (samples, nodes or cells[, components]).
        at: name → "nodes", "cells", or "lagrange2" for second-order fields on a first-order mesh.
        notes: what was done to fit the mesh, in words.
    """

    arrays: dict[str, Array]
    at: dict[str, str]
    notes: list[str] = field(default_factory=list)


def mesh_of(paths: Sequence[Path]) -> MeshArrays:
    """Return the mesh of the first step of the first file, in the order of the file.

    Raises:
        SponError: unreadable content, cells that share no nodes, what `MeshArrays` refuses.
    """
    source, step = next(steps(paths))
    arrays = to_arrays(from_meshio(step, source), False)
    if len(arrays.cells) > 1 and len(arrays.points) == arrays.cells.size:
        raise SponError(
            f"{source}: its cells share no nodes, as in files of discontinuous fields; give the mesh"
        )
    return arrays


def read_fields(
    paths: Sequence[Path],
    names: Sequence[str],
    mesh: TaggedMesh,
    at: Mapping[str, str] | None = None,
) -> Fields:
    """Read arrays by name, a sample for each step, in the order of a mesh.

    Nodes and cells in another order are matched by their coordinates.

    Args:
        paths: `.vtu`, `.vtk`, `.xdmf` or `.pvd`, in the order of the samples.
        names: of the arrays.
        mesh: that they belong to.
        at: name → "nodes" or "cells" where a file has both of one name.

    Raises:
        SponError: an unknown name, coordinates that do not match, several values at one node, steps without
            an array.
        MissingDependencyError: meshio is missing.
    """
    found: dict[str, list[Array]] = {name: [] for name in names}
    places: dict[str, str] = {}
    matches: dict[str, Match] = {}
    known: Any = None
    notes: list[str] = []
    for source, step in steps(paths):
        if known is None or not same_mesh(known, step):
            known, file = step, to_arrays(from_meshio(step, source), False)
            matches = {}
        for name in names:
            place, values = _array(step, source, name, (at or {}).get(name), file)
            if places.setdefault(name, place) != place:
                raise SponError(f"{source}: '{name}' is at {place}, in the first sample at {places[name]}")
            if place not in matches:
                pick = match_nodes if place == "nodes" else match_cells
                matches[place] = pick(file, mesh)
                note = matches[place].note
                notes += [f"{source}: {note}"] if note and not any(note in n for n in notes) else []
            one = matches[place].apply(values, f"{source}: '{name}'")
            if found[name] and one.shape != found[name][0].shape:
                raise SponError(
                    f"{source}: '{name}' of shape {one.shape}; allowed: {found[name][0].shape}, "
                    "as in the first sample"
                )
            found[name].append(one)
    arrays = {name: plane(np.stack(values), mesh.arrays.gdim) for name, values in found.items()}
    second = known is not None and file.degree > mesh.arrays.degree
    places = {n: "lagrange2" if second and p == "nodes" else p for n, p in places.items()}
    return Fields(arrays, places, notes)


def _array(step: Any, source: str, name: str, place: str | None, file: MeshArrays) -> tuple[str, Array]:
    """Return where an array is, and its values in the order of the file."""
    there = [p for p, data in (("nodes", step.point_data), ("cells", step.cell_data)) if name in data]
    if not there:
        known = ", ".join(f"'{n}'" for n in (*step.point_data, *step.cell_data)) or "none"
        raise SponError(f"{source}: no array '{name}'; it has: {known}")
    if place is not None and place not in there:
        raise SponError(f"{source}: '{name}' is at {there[0]}, not at {place}")
    if place is None and len(there) == 2:
        raise SponError(
            f"{source}: '{name}' is at nodes and in cells; say which: at {name}=nodes or at {name}=cells"
        )
    chosen = place or there[0]
    if chosen == "nodes":
        return chosen, np.asarray(step.point_data[name])
    top = [len(b.data) and b.dim == file.tdim for b in step.cells]
    blocks = [np.asarray(d) for d, keep in zip(step.cell_data[name], top, strict=True) if keep]
    return chosen, np.concatenate(blocks)
