"""The figures of a report, as data that HTML can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import MissingDependencyError
from spon.evaluation import Measured
from spon.nn.input_range import InputDistance
from spon.plots import predictions_figure
from spon.report.content import Estimates

__all__ = [
    "LABELS",
    "NORMS",
    "distance_figure",
    "distribution_figure",
    "estimates_figure",
    "fields_picture",
    "learning_figure",
]

Floats = npt.NDArray[np.float64]

LABELS = {
    "network": "operator network",
    "pod_regression": "POD + linear regression",
    "mean_output": "mean of training outputs",
    "fe_solve": "FE solution (against refined mesh)",
    "fe_floor": "FE floor (best in this space)",
}
NORMS = {"l2": "L2", "h1": "H1", "energy": "energy"}

_STYLES = {
    "network": {"color": "#0b5fa5", "linewidth": 2.0},
    "pod_regression": {"color": "#c8641c", "linewidth": 1.3},
    "mean_output": {"color": "#8a8a8a", "linewidth": 1.3},
    "fe_solve": {"color": "#2d8a4e", "linewidth": 1.3, "linestyle": "--"},
    "fe_floor": {"color": "#2d8a4e", "linewidth": 1.3, "linestyle": ":"},
}
_BASE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 9.5,
    "svg.hashsalt": "spon",  # the same file for the same numbers
}


def _drawn(size: tuple[float, float], work: Callable[[Any], None]) -> str:
    """Return a figure as an SVG data URI."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"a report needs matplotlib ({error}): pip install matplotlib"
        ) from error
    with rc_context(_BASE):
        figure = Figure(figsize=size, layout="constrained")
        work(figure)
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return _uri(target, "svg+xml")


def _plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis at 1, 2 and 5 of each decade, in percent."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    axis.set_minor_formatter(NullFormatter())


def _uri(target: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(target.getvalue()).decode()}"


def fields_picture(measured: Measured) -> str:
    """Return the samples with the least, the median and the largest error as a PNG data URI."""
    rows: dict[int, str] = {}
    for label, position in measured.ranked().items():  # of few samples two may be the same
        rows[position] = f"{rows[position]}, {label}" if position in rows else label
    samples = [(label, position) for position, label in rows.items()]
    figure = predictions_figure(measured.dataset, measured.predicted, samples)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=130)
    return _uri(target, "png")


def distribution_figure(measured: Measured) -> str:
    """Return the share of samples below each error, a panel for each norm, as an SVG data URI."""

    def work(figure: Any) -> None:
        axes = figure.subplots(1, len(measured.errors), squeeze=False)[0]
        for axis, (norm, errors) in zip(axes, measured.errors.items(), strict=True):
            curves = {"network": errors}
            curves |= {name: found[norm] for name, found in measured.baselines.items()}
            floors = measured.floors
            curves |= {k: floors[f"{k}_{norm}"] for k in ("fe_solve", "fe_floor") if f"{k}_{norm}" in floors}
            for name, values in curves.items():
                share = np.arange(1, len(values) + 1) / len(values)
                axis.step(np.sort(values), share, where="post", label=LABELS[name], **_STYLES[name])
            axis.set(
                xscale="log",
                xlabel=f"relative {NORMS[norm]} error",
                ylim=(0, 1.02),
                title=f"{NORMS[norm]} norm",
            )
            _plain_ticks(axis.xaxis)
        axes[0].set_ylabel("share of samples")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)

    return _drawn((9.4, 3.3), work)


def learning_figure(history: Mapping[str, Floats]) -> str:
    """Return training loss, validation errors and learning rate over the epochs as an SVG data URI.

    Args:
        history: columns `epoch` and some of `loss`, `validation_l2`, `validation_h1`, `learning_rate`.
    """
    curves = {
        "loss": ("training loss", "#8a8a8a"),
        "validation_l2": ("validation, L2", "#0b5fa5"),
        "validation_h1": ("validation, H1", "#c8641c"),
        "validation_energy": ("validation, energy", "#2d8a4e"),
    }

    def work(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=[2.2, 1])
        epoch = history["epoch"]
        for name, (label, colour) in curves.items():
            values = history.get(name, np.full(len(epoch), np.nan))
            there = np.isfinite(values) & (values > 0)
            if there.any():
                few = {"marker": ".", "markersize": 4} if there.sum() < 60 else {}
                left.plot(epoch[there], values[there], label=label, color=colour, linewidth=1.4, **few)
        left.set(yscale="log", xlabel="epoch", title="relative errors")
        _plain_ticks(left.yaxis)
        left.legend(frameon=False)
        if "learning_rate" in history:
            right.plot(epoch, history["learning_rate"], color="#0b5fa5", linewidth=1.4)
        right.set(xlabel="epoch", title="learning rate")
        right.ticklabel_format(axis="y", scilimits=(-2, 3))

    return _drawn((9.4, 2.9), work)


def distance_figure(distance: InputDistance, errors: Floats, limits: Floats) -> str:
    """Return the L2 error of each sample over its distance from the training inputs as an SVG data URI.

    Args:
        distance: of the samples.
        errors: (samples,).
        limits: (2,) nearest and Mahalanobis distance beyond which a sample is outside.
    """
    panels = (
        ("distance to the nearest training input", distance.nearest),
        ("Mahalanobis distance in the leading modes", distance.mahalanobis),
    )

    def work(figure: Any) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        out = distance.outside
        for axis, (label, values), limit in zip(axes, panels, limits, strict=True):
            style = {"s": 16, "alpha": 0.75, "linewidths": 0}
            axis.scatter(values[~out], errors[~out], color="#0b5fa5", label="inside", **style)
            axis.scatter(values[out], errors[out], color="#b3261e", marker="D", label="outside", **style)
            axis.axvline(limit, color="#888888", linewidth=1, linestyle="--", label="limit")
            axis.set(yscale="log", xlabel=label)
        axes[0].set_ylabel("relative L2 error")
        _plain_ticks(axes[0].yaxis)
        axes[1].legend(frameon=False)

    return _drawn((9.4, 3.1), work)


def estimates_figure(estimates: Estimates) -> str:
    """Return the energy error of each sample over its estimate as an SVG data URI."""

    def work(figure: Any) -> None:
        axis = figure.subplots()
        there = np.isfinite(estimates.eta) & (estimates.true > 0)
        x, y = estimates.estimate[there], estimates.true[there]
        if len(x):
            ends = np.array([min(x.min(), y.min()), max(x.max(), y.max())])
            axis.plot(ends, ends, color="#888888", linewidth=1, linestyle="--", label="equal")
        axis.scatter(x, y, s=16, alpha=0.75, linewidths=0, color="#0b5fa5", label="samples")
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="estimated relative energy error",
            ylabel="relative energy error",
        )
        _plain_ticks(axis.xaxis)
        _plain_ticks(axis.yaxis)
        axis.legend(frameon=False)

    return _drawn((4.6, 3.6), work)
