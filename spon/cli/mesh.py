"""`spon mesh`: look at a mesh file, convert it, refine it."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from spon.cli.ranks import alone
from spon.errors import SponError

__all__ = ["add_parser"]

_KINDS = {
    "triangle": "triangles",
    "quadrilateral": "quadrilaterals",
    "tetrahedron": "tetrahedra",
    "hexahedron": "hexahedra",
}
_MEASURES = ("length", "area", "volume")


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser(
        "mesh",
        help="look at a mesh file, convert it, refine it",
        description="Look at a mesh file, convert it, refine it: .msh, .geo, .xdmf, .vtu, .inp, .med and "
        "what else meshio reads and writes.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="cells, names of groups and boundaries, sizes, quality")
    info.add_argument("file")
    info.set_defaults(run=alone(_info))
    convert = actions.add_parser("convert", help="write a mesh to another format, with its names")
    convert.add_argument("source")
    convert.add_argument("target")
    convert.add_argument(
        "--drop-unused", action="store_true", default=None, help="leave out points that belong to no cell"
    )
    convert.set_defaults(run=alone(_convert))
    refine = actions.add_parser(
        "refine", help="split every cell into four or eight; curved cells stay curved"
    )
    refine.add_argument("source")
    refine.add_argument("target")
    refine.add_argument("-n", metavar="N", type=int, default=1, help="how often; default: 1")
    refine.set_defaults(run=alone(_refine))


def _info(chosen: argparse.Namespace) -> None:
    from spon.fem.readers import read_arrays

    print("\n".join(describe(read_arrays(chosen.file))), flush=True)


def _convert(chosen: argparse.Namespace) -> None:
    from spon.fem.readers import read_arrays

    _write(chosen.target, read_arrays(chosen.source, chosen.drop_unused))


def _refine(chosen: argparse.Namespace) -> None:
    from spon.fem.readers import read_arrays
    from spon.fem.refinement import refine

    if chosen.n < 1:
        raise SponError(f"-n {chosen.n}: how often to refine; allowed: 1, 2, …")
    arrays = read_arrays(chosen.source)
    for _ in range(chosen.n):
        arrays, _ = refine(arrays)
    _write(chosen.target, arrays)


def _write(target: str, arrays: Any) -> None:
    from spon.fem.writers import write_arrays

    for note in write_arrays(target, arrays):
        print(note)
    print(f"{target}: {len(arrays.cells)} {_KINDS[arrays.cell_type]}, {len(arrays.points)} nodes")


def describe(arrays: Any) -> list[str]:
    """Return what there is to know about a mesh, in lines.

    Args:
        arrays: `MeshArrays`.
    """
    from spon.fem.measures import QUALITY, cell_measures, cell_qualities, facet_measures
    from spon.fem.topology import Topology

    topology = Topology(arrays)
    sizes, sides = cell_measures(arrays), facet_measures(arrays, topology=topology)
    whole, part = _MEASURES[arrays.tdim - 1], _MEASURES[arrays.tdim - 2]
    order = "first order (straight)" if arrays.degree == 1 else "second order (curved)"
    low, high = arrays.points.min(axis=0), arrays.points.max(axis=0)
    extent = ", ".join(f"{a} {p:.6g} to {q:.6g}" for a, p, q in zip("xyz", low, high, strict=False))
    rows = [
        ("cells", f"{len(arrays.cells)} {_KINDS[arrays.cell_type]} of {order}, {whole} {sizes.sum():.10g}"),
        ("nodes", f"{len(arrays.points)}"),
        ("dimension", f"{arrays.tdim}"),
        ("extent", extent),
    ]
    for label, names, tags, measures, unit, measure in (
        ("cell group", arrays.cell_names, arrays.cell_tags, sizes, "cells", whole),
        ("boundary", arrays.facet_names, arrays.facet_tags, sides, "facets", part),
    ):
        width = max(map(len, names), default=0)
        for name, tag in names.items():
            there = tags == tag
            rows.append(
                (label, f"{name:{width}}  {there.sum()} {unit}, {measure} {measures[there].sum():.10g}")
            )
    if (arrays.cell_tags < 0).any():
        there = arrays.cell_tags < 0
        rows.append(("no group", f"{there.sum()} cells, {whole} {sizes[there].sum():.10g}"))
    exterior = topology.facet_cells == 1
    inside = ~exterior[topology.named_facets]
    if inside.any():
        rows.append(("interior", f"{inside.sum()} named facets are between two cells"))
    exterior[topology.named_facets] = False
    nameless = np.flatnonzero(exterior)
    text = f"{len(nameless)} boundary facets"
    if len(nameless):
        text += f", {part} {facet_measures(arrays, nameless, topology).sum():.10g}"
    rows.append(("no name", text))
    quality = cell_qualities(arrays)
    worst = int(quality.argmin())
    where = ", ".join(f"{c:.6g}" for c in arrays.centroids[worst])
    rows.append(
        (
            "quality",
            f"{QUALITY[arrays.cell_type]} (1 is perfect): min {quality.min():.3f} in cell {worst} at "
            f"({where}), mean {quality.mean():.3f}",
        )
    )
    return [str(arrays.source), *(f"  {label:10}  {text}" for label, text in rows)]
