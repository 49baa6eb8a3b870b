"""Data sets from arrays that were computed elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mpi4py import MPI

from spon.constraint import Constraint
from spon.data.dataset import Dataset
from spon.data.placement import Placed, Placement
from spon.errors import SponError
from spon.fem.boundary import carried
from spon.fem.discretise import discretise
from spon.fem.hierarchy import Hierarchy
from spon.fem.mesh import TaggedMesh, read_mesh
from spon.fem.sensors import Parameters
from spon.fem.spaces import CanonicalSpace
from spon.fem.trace import Trace

__all__ = ["default_levels", "import_arrays", "parts"]

Floats = npt.NDArray[np.float64]

_COARSE = 60  # nodes: fewer are not worth a level


def import_arrays(
    mesh: TaggedMesh | Hierarchy | str | Path,
    inputs: Mapping[str, npt.ArrayLike],
    output: tuple[str, npt.ArrayLike],
    *,
    at: Mapping[str, str] | None = None,
    dirichlet: Sequence[str] = (),
    boundary_data: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    split: Sequence[float] = (),
    levels: int | None = None,
    tolerance: float = 1e-6,
) -> Dataset:
    """Make a data set of arrays on a mesh. Collective over the communicator of the mesh.

    Nodes are in the order of the points of the mesh file, cells in the order of its cells. A value for each
    node of a first-order mesh makes a first-order Lagrange function, for each node of a second-order mesh a
    second-order one, for each cell a DG0 function.

    Args:
        mesh: mesh or hierarchy whose finest mesh the arrays are on; or a mesh file, which this process
            reads alone.
        inputs: name → (samples, nodes or cells[, components]), or (samples[, n]) for plain numbers.
        output: name and (samples, nodes or cells[, components]).
        at: name → "nodes", "cells" or "parameters", where the shape does not say; (samples, n) are taken as
            plain numbers only if this says so; "lagrange2": DoFs of second-order Lagrange functions in
            canonical order.
        dirichlet: boundaries where the output is the same in all samples: its values there are prescribed.
        boundary_data: name → boundary where the output differs from sample to sample: its values there
            become one more input, and are prescribed.
        units: of inputs and output by name.
        split: sizes of the consecutive parts, or their fractions, all below 1; the training samples first.
        levels: algebraic levels below a single mesh; default: by its number of nodes. Not with a hierarchy.
        tolerance: how far outputs may be from each other on a Dirichlet boundary, as a fraction of the
            largest value; they are set to their mean there.

    Returns:
        The data set, samples in the given order.

    Raises:
        SponError: what does not fit: lengths, numbers of samples, values that are not finite real numbers,
            unknown names and boundaries, outputs that differ on a Dirichlet boundary, parts too large.
    """
    hierarchy = _hierarchy(mesh, levels)
    finest = hierarchy.finest
    name, samples = output
    boundary_data = dict(boundary_data or {})
    _check_names(inputs, name, at or {}, units or {}, boundary_data)
    place, at = Placement(finest), at or {}
    placed = {n: place(f"input '{n}'", n, values, at.get(n)) for n, values in inputs.items()}
    solution = place(f"output '{name}'", name, samples, at.get(name))
    if isinstance(solution.space, Parameters):
        raise SponError(f"output '{name}' is plain numbers; allowed: values at {place.allowed}")
    count = len(solution.values)
    for other, found in placed.items():
        if len(found.values) != count:
            raise SponError(
                f"input '{other}' has {len(found.values)} samples, output '{name}' has "
                f"{count}; allowed: as many"
            )
    sizes = parts(split, count)
    constraint, values = _prescribed(finest, solution, dirichlet, list(boundary_data.values()), tolerance)
    encoders: dict[str, Any] = {n: found.space for n, found in placed.items()}
    columns = [found.values for found in placed.values()]
    for own, boundary in boundary_data.items():
        encoders[own] = trace = Trace(finest, solution.space, boundary)
        columns.append(values[:, trace.dofs])
    return Dataset(
        discretise(hierarchy, solution.space, constraint, encoders),
        np.concatenate(columns, axis=1),
        values,
        np.arange(count),
        None,
        name,
        dict(units or {}),
        boundary_data,
        sizes=sizes,
    )


def _hierarchy(mesh: TaggedMesh | Hierarchy | str | Path, levels: int | None) -> Hierarchy:
    if isinstance(mesh, Hierarchy):
        if levels is not None:
            raise SponError(f"levels = {levels} with a hierarchy; allowed: Hierarchy.coarsened(levels)")
        return mesh
    tagged = mesh if isinstance(mesh, TaggedMesh) else read_mesh(mesh, MPI.COMM_SELF)
    return Hierarchy.algebraic(tagged, default_levels(tagged) if levels is None else levels)


def default_levels(mesh: TaggedMesh) -> int:
    """Return how many algebraic levels suit a mesh: aggregates are about three nodes wide, 3 at most."""
    nodes = len(mesh.topology.vertex_points)
    ratio = max(1.0, nodes / _COARSE)
    return min(3, math.ceil(math.log(ratio) / math.log(3**mesh.arrays.tdim)))


def _check_names(
    inputs: Mapping[str, Any],
    output: str,
    at: Mapping[str, str],
    units: Mapping[str, str],
    boundary_data: Mapping[str, str],
) -> None:
    if not inputs and not boundary_data:
        raise SponError("no input; allowed: one or more")
    names = [*inputs, *boundary_data, output]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise SponError(f"'{twice}' is the name of two inputs or outputs; allowed: one each")
    for what, given in (("at", at), ("units", units)):
        unknown = next((n for n in given if n not in names), None)
        if unknown is not None:
            raise SponError(f"{what} of '{unknown}'; there are: {', '.join(names)}")


def parts(split: Sequence[float], samples: int) -> tuple[int, ...]:
    """Return the sizes of consecutive parts.

    Args:
        split: sizes (1 or more), or fractions (all below 1) of the samples.
        samples: how many there are.

    Raises:
        SponError: an empty part, more than there are, sizes mixed with fractions.
    """
    if not split:
        return ()
    fractions = all(0.0 < s < 1.0 for s in split)
    whole = all(s >= 1.0 and float(s).is_integer() for s in split)
    text = ", ".join(f"{s:g}" for s in split)
    if not (fractions or whole) or (fractions and sum(split) > 1.0 + 1e-9):
        raise SponError(f"split {text}; allowed: whole numbers, or fractions with sum 1 at most")
    if fractions:
        ends = [0, *(round(samples * f) for f in np.cumsum(split))]
        sizes = [b - a for a, b in pairwise(ends)]
    else:
        sizes = [int(s) for s in split]
    if min(sizes) < 1 or sum(sizes) > samples:
        raise SponError(
            f"split {text} of {samples} samples is {', '.join(map(str, sizes))}; allowed: one sample or "
            f"more in each part, {samples} at most together"
        )
    return tuple(sizes)


def _prescribed(
    mesh: TaggedMesh, output: Placed, dirichlet: Sequence[str], varying: Sequence[str], tolerance: float
) -> tuple[Constraint, Floats]:
    """Return the constraint, and the outputs moved by round-off to satisfy it."""
    space = CanonicalSpace(mesh, output.space.ufl_element())
    values, shift = output.values.copy(), np.zeros(space.size)
    fixed = np.zeros(space.size, dtype=bool)
    for boundary in dirichlet:
        dofs = carried(space, boundary).ravel()
        mean = values[:, dofs].mean(axis=0)
        gap = np.abs(values[:, dofs] - mean)
        largest = float(np.abs(output.values).max())
        if gap.max() > tolerance * largest:
            sample, at = np.unravel_index(int(gap.argmax()), gap.shape)
            point = space.nodes[dofs[at] // space.parts[0].block_size]
            where = ", ".join(f"{c:g}" for c in point)
            raise SponError(
                f"the output on boundary '{boundary}' differs between the samples, by {gap.max():.3g} "
                f"from its mean in sample {sample} at ({where}); allowed: {tolerance * largest:.1g}, or "
                f"boundary data of each sample (boundary_data NAME={boundary})"
            )
        shift[dofs], fixed[dofs] = mean, True
    values[:, fixed] = shift[fixed]
    for boundary in varying:
        fixed[carried(space, boundary).ravel()] = True
    held = np.flatnonzero(fixed)
    constraint = Constraint.none(space.size)
    return (constraint.prescribe(held, shift[held]) if len(held) else constraint), values
