"""Pictures of predictions beside the fields that they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.data.dataset import Dataset
from spon.data.pictures import Column, colours, field_columns, input_columns, write_numbers
from spon.data.surfaces import Surface
from spon.errors import MissingDependencyError
from spon.evaluation import relative_errors
from spon.files import replacing

__all__ = ["plot_predictions", "predictions_figure"]

Floats = npt.NDArray[np.float64]


def plot_predictions(
    path: str | Path,
    dataset: Dataset,
    predicted: npt.NDArray[np.float64],
    samples: Sequence[tuple[str, int]],
) -> None:
    """Draw input, reference, prediction and error of some samples into a file.

    Args:
        path: PNG file.
        dataset: inputs and references.
        predicted: (samples, DoFs).
        samples: label and position in the data set of each row.

    Raises:
        MissingDependencyError: matplotlib is missing.
        SponError: unwritable path.
    """
    figure = predictions_figure(dataset, predicted, samples)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=140)


def predictions_figure(
    dataset: Dataset, predicted: npt.NDArray[np.float64], samples: Sequence[tuple[str, int]]
) -> Any:
    """Draw inputs, reference, prediction and error of some samples, a row each, on any mesh.

    Reference and prediction of a sample have the same colours. Vectors are drawn by magnitude, their error by
    the magnitude of the difference; members of mixed spaces have rows of their own, bodies are drawn by their
    surface.

    Args:
        dataset: inputs and references.
        predicted: (samples, DoFs).
        samples: label and position in the data set of each row.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        MissingDependencyError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(f"plots need matplotlib ({error}): pip install matplotlib") from error
    surface = Surface.of(dataset.discretisation.levels[0])
    chosen = [position for _, position in samples]
    errors = relative_errors(dataset, predicted, "l2")[chosen]
    inputs = input_columns(dataset, chosen, surface)
    outputs = _output_columns(dataset, predicted, chosen, surface)
    members = len(outputs)
    widths = [0.45 if column.draw is None else 1.0 for column in inputs] + [1.0] * 3
    width, height = surface.aspect
    row = min(max(2.5 * height / width, 1.2), 5.0)
    size = (3.2 * sum(widths), (row + 0.5) * len(samples) * members)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(len(samples) * members, len(widths), width_ratios=widths)
    for line, member in np.ndindex(len(samples), members):
        place = line * members + member

        def axis(number: int, column: Column, place: int = place) -> Any:
            solid = surface.gdim == 3 and column.draw is not None
            kind = {"projection": "3d"} if solid else {}
            return figure.add_subplot(grid[place, number], **kind)

        if member == 0:
            for number, column in enumerate(inputs):
                style = {} if column.draw is None else colours(column.cmap, column.values[line])
                title = f"{samples[line][0]} sample: {column.title}" if number == 0 else column.title
                _panel(figure, axis(number, column), column, line, style, title, surface)
        reference, guess, gap = outputs[member]
        pair = np.concatenate([reference.values[line], guess.values[line]])
        same = {"cmap": "inferno", "norm": colours("inferno", pair)["norm"]}
        note = f"{gap.title}, relative L2 {errors[line]:.2%}" if member == 0 else gap.title
        panels = (
            (reference, same, reference.title),
            (guess, same, guess.title),
            (gap, _error_colours(gap, line), note),
        )
        for number, (column, style, title) in enumerate(panels, len(inputs)):
            _panel(figure, axis(number, column), column, line, style, title, surface)
    return figure


def _output_columns(
    dataset: Dataset, predicted: Floats, chosen: list[int], surface: Surface
) -> list[tuple[Column, Column, Column]]:
    """Return reference, prediction and error of each member of the output."""
    name, space = dataset.output_name, dataset.discretisation.output
    units = dataset.units.get(name, "")
    u, guess = dataset.outputs[chosen], predicted[chosen]
    triples = (("reference", u), ("prediction", guess), ("error", guess - u))
    columns = [field_columns(f"{what} {name}", units, "inferno", space, v, surface) for what, v in triples]
    return [
        (reference, found, replace(error, title=error.title.replace(f"error {name}", "error")))
        for reference, found, error in zip(*columns, strict=True)
    ]


def _error_colours(column: Column, line: int) -> dict[str, Any]:
    from matplotlib.colors import Normalize

    bound = float(np.abs(column.values[line]).max()) or 1.0
    if column.signed:
        return {"cmap": "RdBu_r", "norm": Normalize(-bound, bound)}
    return {"cmap": "Reds", "norm": Normalize(0.0, bound)}


def _panel(
    figure: Any, axis: Any, column: Column, line: int, style: dict[str, Any], title: str, surface: Surface
) -> None:
    axis.set_title(title, fontsize=9.5)
    if column.draw is None:
        write_numbers(axis, column.values[line], column.units)
        return
    picture = column.draw(axis, column.values[line], style)
    surface.frame(axis)
    bar = figure.colorbar(picture, ax=axis, label=column.units, shrink=0.85, aspect=22)
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=8)
