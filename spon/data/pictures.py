"""Pictures of samples: inputs and output side by side, without DOLFINx."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.data.dataset import Dataset
from spon.data.surfaces import Surface, corner_facets
from spon.errors import MissingDependencyError, SponError
from spon.files import replacing
from spon.space import Space

__all__ = ["Column", "colours", "field_columns", "input_columns", "plot_samples", "write_numbers"]

Floats = npt.NDArray[np.float64]

_MOST = 20  # rows in one picture
_WIDE = 30.0  # largest value over smallest from which on positive fields are drawn on a logarithmic scale


@dataclass(frozen=True)
class Column:
    """One field of some samples.

    Args:
        title: of the picture.
        units: of the values.
        cmap: colour map.
        values: (samples, nodes, cells or facets); (samples, n) of plain numbers.
        draw: draws the values of a sample; None: plain numbers, written.
        signed: whether the values are those of a scalar, and no magnitudes.
    """

    title: str
    units: str
    cmap: str
    values: Floats
    draw: Callable[[Any, Floats, dict[str, Any]], Any] | None
    signed: bool = True


def plot_samples(path: str | Path, dataset: Dataset, samples: Sequence[int]) -> None:
    """Draw samples, a row each; the colours of a field mean the same in all rows.

    Vectors are drawn by their magnitude, fields of mixed spaces member by member, piecewise constants cell
    by cell, second-order functions on four triangles in a cell, higher ones by their vertices; bodies by
    their surface.

    Args:
        path: PNG file.
        dataset: inputs and outputs.
        samples: positions in the data set, from 0.

    Raises:
        MissingDependencyError: matplotlib is missing.
        SponError: a position that is not there, too many rows, unwritable path.
    """
    wrong = next((i for i in samples if not 0 <= i < len(dataset)), None)
    if wrong is not None or not 1 <= len(samples) <= _MOST:
        found = f"sample {wrong}" if wrong is not None else f"{len(samples)} samples"
        raise SponError(f"{found}; allowed: 1 to {_MOST} of the samples 0 to {len(dataset) - 1}")
    if Path(path).suffix != ".png":
        raise SponError(f"{path}: pictures are .png; found '{Path(path).suffix}'")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(f"plots need matplotlib ({error}): pip install matplotlib") from error
    surface = Surface.of(dataset.discretisation.levels[0])
    columns = _columns(dataset, list(samples), surface)
    width, height = surface.aspect
    row = min(max(3.4 * height / width, 1.2), 6.0)
    widths = [0.4 if column.draw is None else 1.0 for column in columns]
    figure = Figure(figsize=(4.2 * sum(widths) + 0.4, row * len(samples) + 1.0), layout="constrained")
    grid = figure.add_gridspec(len(samples), len(columns), width_ratios=widths)
    solid = {"projection": "3d"} if surface.gdim == 3 else {}
    axes: list[list[Any]] = [[] for _ in samples]
    for line, place in np.ndindex(len(samples), len(columns)):
        kind = solid if columns[place].draw is not None else {}
        axes[line].append(figure.add_subplot(grid[line, place], **kind))
    for place, column in enumerate(columns):
        _draw(figure, [line_axes[place] for line_axes in axes], column, surface)
    for line, number in enumerate(samples):
        title = f"sample {dataset.numbers[number]}"
        _label(axes[line][0], title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _label(axis: Any, text: str) -> None:
    place = axis.text2D if hasattr(axis, "text2D") else axis.text
    place(-0.04, 0.5, text, transform=axis.transAxes, rotation=90, ha="right", va="center", fontsize=11)


def write_numbers(axis: Any, values: Floats, units: str) -> None:
    """Write plain numbers in place of a picture, twelve at most."""
    axis.set_axis_off()
    text = "\n".join(f"{v:.5g} {units}".rstrip() for v in values[:12])
    axis.text(0.5, 0.5, text, ha="center", va="center", fontsize=12, transform=axis.transAxes)


def _draw(figure: Any, axes: list[Any], column: Column, surface: Surface) -> None:
    axes[0].set_title(column.title)
    rows: list[Any] = list(column.values)
    if column.draw is None:
        for axis, values in zip(axes, rows, strict=True):
            write_numbers(axis, values, column.units)
        return
    style = colours(column.cmap, column.values)
    for axis, values in zip(axes, rows, strict=True):
        picture = column.draw(axis, values, style)
        surface.frame(axis)
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator

    ticks = (
        {"ticks": LogLocator(subs=(1, 2, 5)), "format": "%g"} if isinstance(style["norm"], LogNorm) else {}
    )
    bar = figure.colorbar(
        picture, ax=axes, **ticks, label=column.units, location="bottom", shrink=0.85, aspect=28, pad=0.02
    )
    bar.minorticks_off()


def colours(cmap: str, values: Floats) -> dict[str, Any]:
    """Return colour map and scale for values: logarithmic where positive ones differ by a factor of 30."""
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(values.min()), float(values.max())
    if low > 0 and high > _WIDE * low:
        return {"cmap": cmap, "norm": LogNorm(low, high)}
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # a constant field, whose noise is not to be seen
        gap = 0.5 * abs(low) or 0.5
        low, high = low - gap, high + gap
    return {"cmap": cmap, "norm": Normalize(low, high)}


def _columns(dataset: Dataset, samples: list[int], surface: Surface) -> list[Column]:
    return [
        *input_columns(dataset, samples, surface),
        *field_columns(
            f"output {dataset.output_name}",
            dataset.units.get(dataset.output_name, ""),
            "inferno",
            dataset.discretisation.output,
            dataset.outputs[samples],
            surface,
        ),
    ]


def input_columns(dataset: Dataset, samples: Sequence[int], surface: Surface) -> list[Column]:
    """Return a column or more for each input.

    Args:
        dataset: inputs.
        samples: positions in the data set.
        surface: of the finest level.
    """
    d, chosen = dataset.discretisation, list(samples)
    out: list[Column] = []
    for name, space in d.inputs.items():
        values = dataset.input(name)[chosen]
        units, title = dataset.units.get(name, ""), f"input {name}"
        if space.element.startswith("parameters"):
            out.append(Column(title, units, "", values, None))
        elif space.element.startswith("trace"):
            boundary = dataset.boundary_data.get(name) or space.element.rpartition(" on ")[2].strip("'\"")
            out.append(
                _trace(f"{title} on {boundary}", units, space, values, d.boundaries[boundary], surface)
            )
        else:
            out += field_columns(title, units, "cividis", space, values, surface)
    return out


def field_columns(
    title: str, units: str, cmap: str, space: Space, values: Floats, surface: Surface
) -> list[Column]:
    """Return a column for a field, or for each member of a mixed one; vectors by their magnitude.

    Args:
        title: of the column.
        units: of the values; members of mixed spaces have none.
        cmap: colour map.
        space: of the values.
        values: (samples, DoFs).
        surface: of the finest level.
    """
    count, cells = len(values), surface.cells
    if space.element.startswith("DP0 ") and space.dofs == cells * space.components:
        at = values.reshape(count, cells, space.components)
        return [Column(_titled(title, at), units, cmap, _magnitude(at), surface.draw_cells, at.shape[2] == 1)]
    nodal = np.asarray((space.features @ values.T).T).reshape(count, -1, space.components)
    widths = [space.components]
    if len(space.members) > 1:
        # how many components a member has shows in which features its DoFs reach
        reached = [abs(space.features[:, a : a + n]).sum(axis=1) for a, n in space.members]
        widths = [int((r.reshape(-1, space.components).max(axis=0) > 0).sum()) for r in reached]
    ends = np.cumsum(widths)[:-1]
    pieces = np.split(nodal, ends, axis=2)
    titles = [title] if len(pieces) == 1 else [f"{title}, member {k}" for k in range(len(pieces))]
    return [
        Column(
            _titled(t, p),
            units if len(pieces) == 1 else "",
            cmap,
            _magnitude(p),
            surface.draw_nodes,
            p.shape[2] == 1,
        )
        for t, p in zip(titles, pieces, strict=True)
    ]


def _titled(title: str, values: Floats) -> str:
    return f"{title}, magnitude" if values.shape[2] > 1 else title


def _magnitude(values: Floats) -> Floats:
    if values.shape[2] == 1:
        return np.asarray(values[..., 0])
    return np.asarray(np.linalg.norm(values, axis=2))


def _trace(
    title: str, units: str, space: Space, values: Floats, facets: npt.NDArray[np.int64], surface: Surface
) -> Column:
    nodal = np.asarray((space.features @ values.T).T).reshape(len(values), -1, space.components)
    on = corner_facets(facets)
    at = _magnitude(nodal)[:, on].mean(axis=2)

    def draw(axis: Any, one: Floats, style: dict[str, Any]) -> Any:
        return surface.draw_facets(axis, on, one, style)

    return Column(_titled(title, nodal), units, "cividis", at, draw)
