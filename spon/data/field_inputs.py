"""Inputs of a network from files and numbers; needs no DOLFINx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.data.numeric import numeric
from spon.data.points import Match, match
from spon.data.series import SUFFIXES, plane, same_mesh, steps
from spon.data.sources import NUMPY, expand, read_numpy
from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.level import Level
from spon.space import Space

__all__ = ["read_inputs"]

Floats = npt.NDArray[np.float64]

_CORNERS = {"triangle": 3, "quad": 4, "tetra": 4, "hexahedron": 8}


def read_inputs(
    discretisation: Discretisation, sources: Mapping[str, str], samples: Sequence[int] | None = None
) -> tuple[Floats, list[int], list[str]]:
    """Read samples of all inputs.

    A source is a `.npz` file with an array of the name of the input; a `.npy` file; a file of fields, or a
    quoted pattern of such files, a step for each sample, with an array of the name; or numbers with commas
    between them, for parameters. Arrays are (samples, n) or (samples, nodes, components) DoFs in canonical
    order, as in a data set: for first-order Lagrange functions the order of the mesh. Fields are matched
    with the mesh by the coordinates of their nodes or cells. What has one sample is used for all.

    Args:
        discretisation: of the network.
        sources: input → source.
        samples: positions of those that are wanted, from 0; default: all.

    Returns:
        (samples, DoFs of all inputs), the positions, and notes on what was matched.

    Raises:
        SponError: an input that is missing or unknown, wrong lengths, values that are not finite, as many
            samples as others do not have, a sample that is not there.
        MissingDependencyError: meshio is missing.
    """
    spaces = discretisation.inputs
    unknown = next((name for name in sources if name not in spaces), None)
    missing = next((name for name in spaces if name not in sources), None)
    if unknown is not None or missing is not None:
        found = f"there is no input '{unknown}'" if unknown is not None else f"input '{missing}' is missing"
        allowed = ", ".join(f"{name} ({space.element})" for name, space in spaces.items())
        raise SponError(f"{found}; the network takes: {allowed}")
    notes: list[str] = []
    found_values = {name: _read(discretisation, name, sources[name], notes) for name in spaces}
    counts = {name: len(values) for name, values in found_values.items()}
    several = {name: n for name, n in counts.items() if n > 1}
    if len(set(several.values())) > 1:
        words = ", ".join(f"'{name}' {n}" for name, n in several.items())
        raise SponError(f"inputs with several numbers of samples: {words}; allowed: one number, or 1")
    count = max(counts.values())
    chosen = list(range(count)) if samples is None else list(samples)
    wrong = next((i for i in chosen if not 0 <= i < count), None)
    if wrong is not None:
        raise SponError(f"sample {wrong}; allowed: 0 to {count - 1}")
    columns = [np.broadcast_to(v, (count, v.shape[1]))[chosen] for v in found_values.values()]
    return np.concatenate(columns, axis=1), chosen, notes


def _read(d: Discretisation, name: str, source: str, notes: list[str]) -> Floats:
    space, label = d.inputs[name], f"input '{name}'"
    numbers = _numbers(source)
    if numbers is not None:
        if not space.element.startswith("parameters"):
            raise SponError(f"{label} is {source}; allowed: a file, since it is a field ({space.element})")
        return _dofs(label, numeric(label, numbers[None]), space)
    paths = expand([source], (*NUMPY, *SUFFIXES))
    if paths[0].suffix in NUMPY:
        return _dofs(label, numeric(label, _array(paths, name)), space)
    return _from_fields(d, name, paths, notes)


def _numbers(source: str) -> Floats | None:
    try:
        return np.array([float(part) for part in source.split(",")])
    except ValueError:
        return None


def _array(paths: list[Path], name: str) -> npt.NDArray[Any]:
    if len(paths) > 1:
        raise SponError(f"{len(paths)} files of arrays for input '{name}'; allowed: one")
    if paths[0].suffix == ".npy":
        return read_numpy(paths, [paths[0].stem])[paths[0].stem]
    return read_numpy(paths, [name])[name]


def _dofs(label: str, values: npt.NDArray[Any], space: Space) -> Floats:
    """Return (samples, DoFs) of an array."""
    shape = values.shape
    if values.ndim == 1:  # one sample of a field, or many of a number
        values = values[:, None] if space.dofs == 1 else values[None]
    if values[0].size != space.dofs:
        swapped = "; samples come first" if values.shape[-1] != space.dofs == len(values) else ""
        raise SponError(
            f"{label} of shape {shape} has {values[0].size} values in a sample; allowed: {space.dofs} "
            f"({space.element}){swapped}"
        )
    return values.reshape(len(values), -1).astype(np.float64)


def _from_fields(d: Discretisation, name: str, paths: list[Path], notes: list[str]) -> Floats:
    """Read steps of files, matched with the finest level."""
    space, level = d.inputs[name], d.levels[0]
    element = space.element.removeprefix("trace of ")
    constant = element.startswith("DP0 ")
    if " + " in element or not (constant or element.startswith("P")) or element.startswith("parameters"):
        raise SponError(
            f"input '{name}' ({space.element}) cannot be read from {paths[0]}; allowed: {', '.join(NUMPY)}"
        )
    out: list[Floats] = []
    known: Any = None
    pick = _match_cells if constant else _match_nodes
    for source, step in steps(paths):
        if known is None or not same_mesh(known, step):
            known, matched = step, pick(step, source, level, space)
            if matched.note and not any(matched.note in note for note in notes):
                notes.append(f"{source}: {matched.note}")
        values = _values(step, source, name, constant, level.gdim)
        values = matched.apply(values, f"{source}: '{name}'")
        values = plane(numeric(f"{source}: '{name}'", values[None]), level.gdim)[0]
        flat = values.reshape(len(values), -1)
        if flat.shape[1] != space.components:
            raise SponError(
                f"{source}: '{name}' has {flat.shape[1]} components; allowed: {space.components} "
                f"({space.element})"
            )
        if constant:
            out.append(flat.ravel())
            continue
        nodal = np.zeros((len(level.points), space.components))
        nodal[: len(flat)] = flat
        out.append(np.asarray(space.interpolation @ nodal.ravel()))
    return np.stack(out)


def _values(step: Any, source: str, name: str, constant: bool, gdim: int) -> npt.NDArray[Any]:
    data = step.cell_data if constant else step.point_data
    if name not in data:
        place = "cells" if constant else "nodes"
        known = ", ".join(f"'{n}'" for n in data) or "none"
        raise SponError(f"{source}: no array '{name}' at its {place}; it has: {known}")
    if not constant:
        return np.asarray(data[name])
    return np.concatenate([np.asarray(data[name][k]) for k in _blocks(step, source, gdim)])


def _blocks(step: Any, source: str, gdim: int) -> list[int]:
    """Return the blocks of cells of full dimension."""
    found = [k for k, block in enumerate(step.cells) if len(block.data) and block.dim == gdim]
    if not found:
        raise SponError(f"{source}: has no cells of dimension {gdim}")
    return found


def _match_cells(step: Any, source: str, level: Level, space: Space) -> Match:
    points = np.asarray(step.points, dtype=np.float64)[:, : level.gdim]
    centres = []
    for k in _blocks(step, source, level.gdim):
        block = step.cells[k]
        corners = _CORNERS.get(block.type.rstrip("0123456789"))
        if corners is None:
            raise SponError(f"{source}: has cells of type {block.type}; allowed: {', '.join(_CORNERS)}")
        centres.append(points[block.data[:, :corners]].mean(axis=1))
    own = _corners(level)
    return match(np.concatenate(centres), level.points[own].mean(axis=1), source, "the training mesh", "cell")


def _match_nodes(step: Any, source: str, level: Level, space: Space) -> Match:
    """Match with all nodes of the level, or with the vertices alone where these carry the input."""
    points = np.asarray(step.points, dtype=np.float64)[:, : level.gdim]
    vertices = int(_corners(level).max()) + 1  # the canonical order has them first
    used = np.flatnonzero(np.diff(space.interpolation.tocsc().indptr))
    low_order = used.max(initial=-1) < vertices * space.components
    wanted = level.points
    if low_order and len(points) < len(level.points):
        wanted = level.points[:vertices]
    return match(points, wanted, source, "the training mesh", "node")


def _corners(level: Level) -> npt.NDArray[np.int64]:
    count = {"triangle": 3, "quadrilateral": 4, "tetrahedron": 4, "hexahedron": 8}
    return np.asarray(level.cells[:, : count[level.reference.cell_type]])
