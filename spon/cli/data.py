"""`spon data`: look at data sets and merge them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from spon.cli.positions import positions
from spon.cli.ranks import alone
from spon.errors import SponError

__all__ = ["add_parser", "describe"]


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser(
        "data",
        help="look at data sets, merge them",
        description="Look at or merge data sets; needs neither DOLFINx nor MPI.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="samples, spaces, units, ranges, statistics, failures")
    info.add_argument("file")
    info.set_defaults(run=alone(_info, needs_dolfinx=False))
    plot = actions.add_parser("plot", help="draw samples, inputs and output side by side")
    plot.add_argument("file")
    plot.add_argument("-o", metavar="PNG", dest="target", help="default: FILE with the suffix .png")
    which = plot.add_mutually_exclusive_group()
    which.add_argument("-n", metavar="N", type=int, default=3, help="the first N samples; default: 3")
    which.add_argument("--samples", metavar="I,I", type=positions, help="positions in the data set, from 0")
    plot.set_defaults(run=alone(_plot, needs_dolfinx=False))
    merge = actions.add_parser("merge", help="put data sets on several meshes into one file")
    merge.add_argument("files", nargs="+", metavar="FILE", help="data sets of the same inputs and output")
    merge.add_argument("-o", metavar="FILE", dest="target", required=True, help="file to write or replace")
    merge.set_defaults(run=alone(_merge, needs_dolfinx=False))


def _info(chosen: argparse.Namespace) -> None:
    from spon.data.collection import DatasetCollection

    collection = DatasetCollection.load(chosen.file)
    blocks = [describe(dataset, chosen.file) for dataset in collection]
    if len(blocks) > 1:
        for k, block in enumerate(blocks):
            block[0] = f"{block[0]}: data set {k + 1} of {len(blocks)}"
    print("\n".join(line for block in blocks for line in block), flush=True)


def _merge(chosen: argparse.Namespace) -> None:
    from spon.data.collection import DatasetCollection

    merged = DatasetCollection.merge(DatasetCollection.load(file) for file in chosen.files)
    merged.save(chosen.target)
    samples = " + ".join(str(len(dataset)) for dataset in merged)
    print(f"{chosen.target}: {len(merged)} data sets, {samples} samples", flush=True)


def _plot(chosen: argparse.Namespace) -> None:
    from spon.data.dataset import Dataset
    from spon.data.pictures import plot_samples

    if chosen.n < 1:
        raise SponError(f"-n {chosen.n}: how many samples to draw; allowed: 1, 2, …")
    dataset = Dataset.load(chosen.file)
    samples = chosen.samples if chosen.samples is not None else list(range(min(chosen.n, len(dataset))))
    target = chosen.target or str(Path(chosen.file).with_suffix(".png"))
    plot_samples(target, dataset, samples)
    print(f"{target}: samples {', '.join(map(str, samples))}", flush=True)


def describe(dataset: Any, path: str | Path) -> list[str]:
    """Return what there is to know about a data set, in lines.

    Args:
        dataset: `spon.Dataset`.
        path: its file.
    """
    from spon.data.dataset import FORMAT

    d = dataset.discretisation
    seed = "not generated" if dataset.seed is None else f"seed {dataset.seed}"
    rows = [("samples", f"{len(dataset)}, {_split(dataset.sizes, len(dataset))}; {seed}")]
    if len(dataset):
        inputs, outputs = dataset.normalisation()
        fields = [
            (name, space, dataset.input(name), inputs[:, k], "input")
            for k, (name, space) in enumerate(d.inputs.items())
        ]
        for name, space, values, moments, kind in [
            *fields,
            (dataset.output_name, d.output, dataset.outputs, outputs, "output"),
        ]:
            rows.append((kind, _field(name, space, values, moments, dataset)))
    free = d.constraint.Z.shape[1]
    rows.append(
        ("constraint", f"{free} free of {d.dofs} DoFs; boundaries {', '.join(d.boundaries) or 'none'}")
    )
    for name, values in dataset.statistics.items():
        rows.append(("statistics", f"{name}: mean {np.mean(values):.4g}, max {np.max(values):.4g}"))
    if dataset.failures:
        first = dataset.failures[0]
        rows.append(
            ("failures", f"{len(dataset.failures)}, the first is sample {first.number}: {first.reason}")
        )
    else:
        rows.append(("failures", "none"))
    level = d.levels[0]
    nodes = ", ".join(
        f"{len(one.points)}{' (algebraic)' if one.finer is not None else ''}" for one in d.levels
    )
    rows.append(("mesh", f"{len(level.cells)} cells ({level.reference.cell_type}), {level.gdim}-D"))
    rows.append(("levels", f"{len(d.levels)} with {nodes} nodes"))
    rows.append(("fingerprint", d.fingerprint))
    rows.append(("file", f"format {FORMAT}, {_size(Path(path).stat().st_size)}"))
    return [str(path), *(f"  {label:11}  {text}" for label, text in rows)]


def _split(sizes: tuple[int, ...], samples: int) -> str:
    if not sizes:
        return "not split"
    rest = f" ({samples - sum(sizes)} in no part)" if sum(sizes) < samples else ""
    return f"split {' + '.join(map(str, sizes))}{rest}"


def _field(name: str, space: Any, values: Any, moments: Any, dataset: Any) -> str:
    units = dataset.units.get(name)
    where = dataset.boundary_data.get(name)
    text = f"{name}{f' [{units}]' if units else ''}: {space.element}, {space.dofs} DoFs, "
    text += f"{values.min():.4g} to {values.max():.4g}, "
    text += f"mean {moments[0]:.4g}, standard deviation {moments[1]:.4g}"
    return text + (f"; boundary data on {where}" if where else "")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
