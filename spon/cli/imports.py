"""`spon import`: a data set from your own arrays."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spon.cli.ranks import alone
from spon.errors import SponError

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser(
        "import",
        help="make a data set of your own arrays or fields",
        description="Make a data set of arrays at the nodes or in the cells of a mesh (.npz, .npy), of "
        "fields in files (.vtu, .vtk, .xdmf, .pvd; a file or a step for each sample), or of arrays on a "
        "regular grid.",
    )
    add = parser.add_argument
    add("sources", metavar="SOURCE", nargs="+", help="files, or a quoted pattern such as 'run_*.vtu'")
    add("-o", metavar="FILE", dest="target", required=True, help="data set to write")
    add("--input", metavar="NAME", nargs="+", default=[], help="arrays that the operator is given")
    add("--output", metavar="NAME", nargs="+", required=True, help="array that it returns")
    add("--mesh", metavar="FILE", help="mesh of the arrays; default for fields: that of their files")
    add(
        "--at",
        metavar="NAME=PLACE",
        nargs="+",
        default=[],
        type=_pair,
        help="nodes, cells or parameters, where the length of an array does not say",
    )
    add(
        "--dirichlet",
        metavar="BOUNDARY",
        nargs="+",
        default=[],
        help="boundaries where the output is the same in all samples; it is exact there from then on",
    )
    add(
        "--boundary-data",
        metavar="NAME=BOUNDARY",
        nargs="+",
        default=[],
        type=_pair,
        help="boundaries where it differs: its values there become the input NAME",
    )
    add("--units", metavar="NAME=UNIT", nargs="+", default=[], type=_pair)
    add(
        "--split",
        metavar="N,N",
        type=_numbers,
        default=(),
        help="sizes of consecutive parts, or fractions such as .8,.1,.1; those for training first",
    )
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument(
        "--levels", metavar="L", type=int, help="algebraic levels below the mesh; on a grid: nested ones"
    )
    depth.add_argument(
        "--refinements", metavar="R", type=int, help="the arrays are on the mesh after R uniform refinements"
    )
    add("--grid", action="store_true", help="arrays are (samples, ny, nx) or (samples, nz, ny, nx)")
    add(
        "--box",
        metavar="X0,X1,Y0,Y1",
        type=_numbers,
        help="that the grid spans, and Z0,Z1 in 3-D; --box=-1,1,… for negative numbers; default: 0,1,0,1",
    )
    add(
        "--centred",
        metavar="NAME",
        nargs="*",
        help="values are at the centres of the grid's cells, in these arrays or in all; they become "
        "piecewise constant",
    )
    add("--cells", metavar="KIND", help="triangle, quadrilateral, tetrahedron or hexahedron, on a grid")
    parser.set_defaults(run=alone(_import))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: NAME=VALUE")
    return name, value


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: numbers with commas between them") from None


def _import(chosen: argparse.Namespace) -> None:
    from spon.cli.data import describe
    from spon.data.series import SUFFIXES
    from spon.data.sources import NUMPY, expand

    if len(chosen.output) > 1:
        raise SponError(
            f"--output {' '.join(chosen.output)}: {len(chosen.output)} outputs; allowed: one; fields "
            "of one kind and scale can be the components of one array, others are data sets of their own"
        )
    if not Path(chosen.target).resolve().parent.is_dir():  # before the work, not after it
        raise SponError(f"cannot write {chosen.target}: no such folder")
    _check_options(chosen)
    paths = expand(chosen.sources, (*NUMPY, *SUFFIXES))
    work = _from_grid if chosen.grid else _from_numpy if paths[0].suffix in NUMPY else _from_fields
    dataset = work(chosen, paths)
    dataset.save(chosen.target)
    print("\n".join(describe(dataset, chosen.target)), flush=True)


def _check_options(chosen: argparse.Namespace) -> None:
    if chosen.grid:
        wrong = [f"--{name}" for name in ("mesh", "refinements") if getattr(chosen, name) is not None]
        if wrong:
            raise SponError(f"{wrong[0]} with --grid, which makes its own mesh; allowed: --levels")
        return
    wrong = [f"--{name}" for name in ("box", "centred", "cells") if getattr(chosen, name) is not None]
    if wrong:
        raise SponError(f"{wrong[0]} without --grid")
    if chosen.refinements is not None and chosen.mesh is None:
        raise SponError("--refinements without --mesh")


def _options(chosen: argparse.Namespace) -> dict[str, Any]:
    return {
        "dirichlet": chosen.dirichlet,
        "boundary_data": dict(chosen.boundary_data),
        "units": dict(chosen.units),
        "split": chosen.split,
    }


def _from_grid(chosen: argparse.Namespace, paths: list[Path]) -> Any:
    from spon.data.grids import import_grid
    from spon.data.sources import NUMPY, read_numpy

    if paths[0].suffix not in NUMPY:
        raise SponError(f"--grid with {paths[0]}; allowed: {', '.join(NUMPY)}")
    (output,) = chosen.output
    arrays = read_numpy(paths, [*chosen.input, output])
    return import_grid(
        {name: arrays[name] for name in chosen.input},
        (output, arrays[output]),
        chosen.box or (0.0, 1.0, 0.0, 1.0),
        centred=False if chosen.centred is None else chosen.centred or True,
        cell_type=chosen.cells,
        levels=chosen.levels,
        at=dict(chosen.at),
        **_options(chosen),
    )


def _from_numpy(chosen: argparse.Namespace, paths: list[Path]) -> Any:
    from spon.data.imports import import_arrays
    from spon.data.sources import read_numpy

    if chosen.mesh is None:
        raise SponError("no mesh for the arrays; allowed: --mesh FILE, or --grid")
    (output,) = chosen.output
    arrays = read_numpy(paths, [*chosen.input, output])
    inputs = {name: arrays[name] for name in chosen.input}
    hierarchy, levels = _meshes(chosen, paths)
    return import_arrays(
        hierarchy, inputs, (output, arrays[output]), at=dict(chosen.at), levels=levels, **_options(chosen)
    )


def _from_fields(chosen: argparse.Namespace, paths: list[Path]) -> Any:
    from spon.data.field_files import read_fields
    from spon.data.imports import import_arrays

    (output,) = chosen.output
    hierarchy, levels = _meshes(chosen, paths)
    mesh = getattr(hierarchy, "finest", hierarchy)
    fields = read_fields(paths, list(dict.fromkeys([*chosen.input, output])), mesh, dict(chosen.at))
    for note in fields.notes:
        print(note)
    inputs = {name: fields.arrays[name] for name in chosen.input}
    return import_arrays(
        hierarchy, inputs, (output, fields.arrays[output]), at=fields.at, levels=levels, **_options(chosen)
    )


def _meshes(chosen: argparse.Namespace, paths: list[Path]) -> tuple[Any, int | None]:
    """Return a mesh, or a hierarchy, and the number of algebraic levels below a mesh."""
    from mpi4py import MPI

    from spon.data.field_files import mesh_of
    from spon.fem.hierarchy import Hierarchy
    from spon.fem.mesh import TaggedMesh, read_mesh

    if chosen.mesh is None:
        return TaggedMesh(mesh_of(paths), MPI.COMM_SELF), chosen.levels
    mesh = read_mesh(chosen.mesh, MPI.COMM_SELF)
    if chosen.refinements is None:
        return mesh, chosen.levels
    return Hierarchy.uniform(mesh, chosen.refinements), None
