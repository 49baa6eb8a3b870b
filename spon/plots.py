"""Pictures of fields on meshes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.data.dataset import Dataset
from spon.errors import MissingDependencyError
from spon.evaluation import relative_errors
from spon.files import replacing

__all__ = ["plot_predictions"]


def plot_predictions(
    path: str | Path,
    dataset: Dataset,
    predicted: npt.NDArray[np.float64],
    samples: Sequence[tuple[str, int]],
) -> None:
    """Draw input, reference, prediction and error of some samples, a row each, on a plane mesh.

    Args:
        path: PNG file.
        dataset: inputs and references.
        predicted: (samples, DoFs).
        samples: label and position in the data set of each row.

    Raises:
        MissingDependencyError: matplotlib is missing.
        SponError: unwritable path.
    """
    try:
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
        from matplotlib.tri import Triangulation
    except ImportError as error:
        raise MissingDependencyError(f"plots need matplotlib ({error}): pip install matplotlib") from error
    level = dataset.discretisation.levels[0]
    mesh = Triangulation(*level.points.T, level.cells)
    width, height = np.ptp(level.points, axis=0)
    row = 3.6 * height / width + 0.85
    figure = Figure(figsize=(16.5, row * len(samples)), layout="constrained")
    axes: Any = figure.subplots(len(samples), 4, squeeze=False)
    errors = relative_errors(dataset, predicted, "l2")
    m_name, u_name = next(iter(dataset.discretisation.inputs)), dataset.output_name
    m_units, u_units = (dataset.units.get(name, "") for name in (m_name, u_name))
    for line, (label, i) in zip(axes, samples, strict=True):
        m, u, guess = dataset.inputs[i], dataset.outputs[i], predicted[i]
        low, high = min(u.min(), guess.min()), max(u.max(), guess.max())
        bound = float(np.abs(guess - u).max())
        scale = LogNorm(m.min(), m.max()) if m.min() > 0 else None
        panels: Any = (
            (f"{label} sample: input {m_name}", m, {"cmap": "cividis", "norm": scale}, m_units),
            (
                f"reference {u_name} (FE)",
                u,
                {"cmap": "inferno", "vmin": low, "vmax": high},
                u_units,
            ),
            (
                f"prediction {u_name}",
                guess,
                {"cmap": "inferno", "vmin": low, "vmax": high},
                u_units,
            ),
            (
                f"error, relative L2 {errors[i]:.2%}",
                guess - u,
                {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound},
                u_units,
            ),
        )
        for axis, (title, values, style, units) in zip(line, panels, strict=True):
            picture = axis.tripcolor(mesh, values, shading="gouraud", **style)
            if values is m:
                axis.triplot(mesh, color="black", linewidth=0.15, alpha=0.5)
            axis.set(title=title, aspect="equal", xticks=[], yticks=[])
            axis.set_frame_on(False)
            figure.colorbar(picture, ax=axis, label=units, shrink=0.8, aspect=15)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
