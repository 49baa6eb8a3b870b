"""Predictions in files; needs no DOLFINx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from spon.data.dataset import Dataset
from spon.data.pictures import plot_samples
from spon.errors import MissingDependencyError, SponError
from spon.files import replacing

__all__ = ["SUFFIXES", "write_prediction"]

SUFFIXES = (".npz", ".vtu", ".pvd", ".xdmf", ".png")

Floats = npt.NDArray[np.float64]

# cells in meshio's order, which is VTK's, from those in the reference order of DOLFINx
_VTK = {
    ("triangle", 1): ("triangle", [0, 1, 2]),
    ("triangle", 2): ("triangle6", [0, 1, 2, 5, 3, 4]),
    ("quadrilateral", 1): ("quad", [0, 1, 3, 2]),
    ("quadrilateral", 2): ("quad9", [0, 1, 3, 2, 4, 6, 7, 5, 8]),
    ("tetrahedron", 1): ("tetra", [0, 1, 2, 3]),
    ("tetrahedron", 2): ("tetra10", [0, 1, 2, 3, 9, 6, 8, 7, 5, 4]),
    ("hexahedron", 1): ("hexahedron", [0, 1, 3, 2, 4, 5, 7, 6]),
    ("hexahedron", 2): (
        "hexahedron27",
        [
            *(0, 1, 3, 2, 4, 5, 7, 6, 8, 11, 13, 9, 16, 18, 19, 17),
            *(10, 12, 15, 14, 22, 23, 21, 24, 20, 25, 26),
        ],
    ),
}


def write_prediction(path: str | Path, predictions: Dataset) -> list[str]:
    """Write the outputs of samples.

    | suffix          | holds                                                                        |
    |-----------------|------------------------------------------------------------------------------|
    | `.npz`          | outputs and inputs (samples, DoFs) by name in canonical order, numbers of the |
    |                 | samples (`samples`), `points` of the DoFs where these are values at nodes,   |
    |                 | and the statistics by name                                                   |
    | `.vtu`          | one sample, cells of first or second order                                   |
    | `.pvd`, `.xdmf` | a step for each sample; in `.xdmf` straight cells with values at vertices    |
    | `.png`          | a picture of inputs and output, a row for each sample                        |

    Values in fields are those at the nodes, or in the cells for piecewise constants; where a
    function jumps between cells, the mean. Vectors get three components; the members of a mixed space are
    fields of their own.

    Args:
        path: file to make or replace.
        predictions: with the predictions as outputs.

    Returns:
        Notes on what the format does not hold.

    Raises:
        SponError: another suffix, several samples in a `.vtu`, an unwritable path.
        MissingDependencyError: meshio or matplotlib is missing.
    """
    path = Path(path)
    if path.suffix == ".npz":
        _write_npz(path, predictions)
        return []
    if path.suffix == ".png":
        plot_samples(path, predictions, list(range(len(predictions))))
        return []
    if path.suffix not in SUFFIXES:
        raise SponError(f"{path}: unknown output format; allowed: {', '.join(SUFFIXES)}")
    if path.suffix == ".vtu" and len(predictions) > 1:
        raise SponError(
            f"{path}: {len(predictions)} samples in a .vtu; allowed: one (--samples), or .pvd, .xdmf, .npz"
        )
    try:
        import meshio
    except ImportError as error:
        raise MissingDependencyError(f"{path.suffix} needs meshio ({error}): pip install meshio") from error
    points, cells, kept = _mesh(predictions, 1 if path.suffix == ".xdmf" else 2)
    names, notes = _columns(predictions, kept)
    reduced = kept < len(predictions.discretisation.levels[0].points)
    if reduced:
        notes.append(f"{path}: reduced to values at vertices; .npz keeps all")
    numbers = [int(n) for n in predictions.numbers]
    meshes = [
        meshio.Mesh(
            points,
            cells,
            {name: values[k] for name, (where, values) in names.items() if where == "nodes"},
            {name: [values[k]] for name, (where, values) in names.items() if where == "cells"},
        )
        for k in range(len(predictions))
    ]
    if path.suffix == ".xdmf":
        _write_xdmf(path, meshes, numbers)
        return notes
    if path.suffix == ".vtu":
        with replacing(path) as temporary:
            meshio.write(temporary, meshes[0])
        return notes
    _write_pvd(path, meshes, numbers)
    return notes


def _write_npz(path: Path, predictions: Dataset) -> None:
    d = predictions.discretisation
    arrays: dict[str, Any] = {name: predictions.input(name) for name in d.inputs}
    arrays = {**predictions.statistics, **arrays}
    arrays |= {predictions.output_name: predictions.outputs, "samples": predictions.numbers}
    nodes = len(d.levels[0].points)
    width = d.output.components
    if d.output.element.startswith("P") and " + " not in d.output.element and d.dofs == nodes * width:
        arrays.setdefault("points", d.levels[0].points)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _mesh(predictions: Dataset, most: int) -> tuple[Floats, list[tuple[str, Any]], int]:
    """Return nodes (n, 3), cells for meshio and how many of the nodes are kept, vertices first.

    Args:
        predictions: of them.
        most: highest order of the cells.
    """
    level = predictions.discretisation.levels[0]
    kind = level.reference.cell_type
    degree = level.reference.degree if level.reference.degree <= most else 1
    name, order = _VTK[kind, degree]
    cells = level.cells[:, order]
    kept = int(cells.max()) + 1
    return np.pad(level.points[:kept], ((0, 0), (0, 3 - level.gdim))), [(name, cells)], kept


def _columns(predictions: Dataset, kept: int) -> tuple[dict[str, tuple[str, Floats]], list[str]]:
    """Return name → where, and values (samples, n) or (samples, n, 3); and notes."""
    d = predictions.discretisation
    space, name, u = d.output, predictions.output_name, predictions.outputs
    count = len(u)
    notes: list[str] = []
    if space.element.startswith("DP0 ") and " + " not in space.element:
        values = u.reshape(count, -1, space.components)
        return {n: ("cells", v) for n, v in _padded(name, values, d.levels[0].gdim)}, notes
    if not all(part.startswith("P") for part in space.element.split(" + ")):
        notes.append(f"'{name}' ({space.element}) is reduced to its values at the nodes; .npz keeps all")
    nodal = (space.features @ u.T).T.reshape(count, -1, space.components)[:, :kept]
    widths = [space.components]
    if len(space.members) > 1:
        reached = [abs(space.features[:, a : a + n]).sum(axis=1) for a, n in space.members]
        widths = [int((r.reshape(-1, space.components).max(axis=0) > 0).sum()) for r in reached]
    pieces = np.split(nodal, np.cumsum(widths)[:-1], axis=2)
    labels = [name] if len(pieces) == 1 else [f"{name}_{k}" for k in range(len(pieces))]
    pairs = [
        p for label, one in zip(labels, pieces, strict=True) for p in _padded(label, one, d.levels[0].gdim)
    ]
    return {n: ("nodes", v) for n, v in pairs}, notes


def _padded(name: str, values: Floats, gdim: int) -> list[tuple[str, Floats]]:
    width = values.shape[2]
    if width == 1:
        return [(name, values[..., 0])]
    if width <= 3:
        return [(name, np.pad(values, ((0, 0), (0, 0), (0, 3 - width))))]
    return [(f"{name}_{k}", values[..., k]) for k in range(width)]


def _write_pvd(path: Path, meshes: Sequence[Any], numbers: Sequence[int]) -> None:
    import meshio

    root = ElementTree.Element("VTKFile", type="Collection", version="0.1", byte_order="LittleEndian")
    collection = ElementTree.SubElement(root, "Collection")
    for number, mesh in zip(numbers, meshes, strict=True):
        name = f"{path.stem}_{number:06d}.vtu"
        with replacing(path.with_name(name)) as temporary:
            meshio.write(temporary, mesh)
        ElementTree.SubElement(collection, "DataSet", timestep=str(number), part="0", file=name)
    ElementTree.indent(root)
    with replacing(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _write_xdmf(path: Path, meshes: Sequence[Any], numbers: Sequence[int]) -> None:
    from spon.xdmf_series import Series

    with replacing(path) as temporary:
        with Series(temporary) as writer:
            writer.write_points_cells(meshes[0].points, meshes[0].cells)
            for number, mesh in zip(numbers, meshes, strict=True):
                writer.write_data(float(number), mesh.point_data, mesh.cell_data)
        temporary.with_suffix(".h5").replace(path.with_suffix(".h5"))
