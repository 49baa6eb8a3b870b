"""The report as a page of HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.report.content import Content
from spon.report.figures import (
    LABELS,
    NORMS,
    distance_figure,
    distribution_figure,
    estimates_figure,
    fields_picture,
    learning_figure,
)

__all__ = ["page"]

_PARTS = {"test": "test samples", "validation": "validation samples", "train": "training samples"}
_EXACT = {
    "boundary_error": ("prescribed boundary values", "largest |u − u_D|"),
    "constraint_violation": ("ties of DoFs, such as periodic ones", "largest |u − (Z û + u_g)|"),
    "mean_value": ("zero mean", "|mean of u|"),
    "divergence": ("zero divergence", "max |K u| / max |K| |u|"),
}
_FLOOR_MISSING = (
    "The finite-element floor is not shown: the data set does not have the errors of the finite-element "
    "solutions against a refined mesh. Where the problem that made the data is at hand, --problem finds them."
)
_MOST = 12  # samples outside that are listed


def page(content: Content, limits: npt.NDArray[np.float64] | None) -> str:
    """Return the report as HTML that needs no other file, no network and no script.

    Args:
        content: of the report.
        limits: (2,) distances beyond which an input is outside; None where these are not known.
    """
    style = Path(__file__).with_name("style.css").read_text()
    sections = [
        _head(content),
        _errors(content),
        _exactness(content),
        _distribution(content),
        _fields(content),
        *_trust(content),
        _inputs(content, limits),
        _learning(content),
        _timing(content),
        _settings(content),
    ]
    body = "\n".join(sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(content.title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(name: str, title: str, *parts: str) -> str:
    return "\n".join([f'<section id="{name}">', f"<h2>{title}</h2>", *parts, "</section>"])


def _paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def _image(uri: str, words: str) -> str:
    return f'<figure><img src="{uri}" alt="{escape(words)}"><figcaption>{escape(words)}</figcaption></figure>'


def _table(head: Sequence[str], rows: Sequence[str], kind: str = "") -> str:
    cells = "".join(f"<th{' class=number' if k else ''}>{escape(h)}</th>" for k, h in enumerate(head))
    return f'<table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _row(cells: Sequence[str], kind: str = "") -> str:
    first, *rest = cells
    numbers = "".join(f"<td class=number>{escape(c)}</td>" for c in rest)
    return f'<tr class="{kind}"><td>{escape(first)}</td>{numbers}</tr>'


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(k)}</td><td><code>{escape(v)}</code></td></tr>" for k, v in pairs)
    return f"<table><tbody>{rows}</tbody></table>"


def _summary(label: str, values: Any, form: Callable[[float], str], kind: str = "") -> str:
    return _row([label, *(form(values[k]) for k in ("mean", "median", "max"))], kind)


def _percent(value: float) -> str:
    return f"{value:.3%}" if value < 10 else f"{value:.1e}"


def _tiny(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _time(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * scale >= 1.0:
            return f"{seconds * scale:.3g} {unit}"
    return f"{1e6 * seconds:.2g} µs"


def _head(content: Content) -> str:
    m, dataset = content.metrics, content.measured.dataset
    d = dataset.discretisation
    inputs = ", ".join(d.inputs)
    lead = (
        f"{inputs} ↦ {dataset.output_name}, {d.dofs} degrees of freedom ({d.output.element}); "
        f"{content.model['processor']}, {content.model['parameters']} parameters; "
        f"{len(content.train)} training samples, measured on {len(dataset)} {_PARTS[content.part]}."
    )
    cards = [
        (f"{m['relative_l2']['mean']:.2%}", "mean relative L2 error"),
        (f"{m['relative_h1']['mean']:.2%}", "mean relative H1 error"),
        (_tiny(m["boundary_error"]["max"]), "largest boundary error"),
        (_time(m["seconds"]["prediction"]), "one prediction"),
    ]
    if content.distance is not None:
        cards.append(
            (f"{int(content.distance.outside.sum())} of {len(dataset)}", "inputs outside the training range")
        )
    boxes = "".join(f'<div class="card"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in cards)
    title = f"<h1>{escape(content.title)}</h1>"
    return f'{title}\n<p class="lead">{escape(lead)}</p>\n<div class="cards">{boxes}</div>'


def _errors(content: Content) -> str:
    m = content.metrics
    rows: list[str] = []
    for norm in content.measured.errors:
        rows.append(f'<tr class="group"><td colspan="4">{NORMS[norm]} norm</td></tr>')
        rows.append(_summary(LABELS["network"], m[f"relative_{norm}"], _percent, "network"))
        for floor in ("fe_floor", "fe_solve"):
            if f"{floor}_{norm}" in m:
                rows.append(_summary(LABELS[floor], m[f"{floor}_{norm}"], _percent))
        for name, errors in m["baselines"].items():
            rows.append(_summary(f"baseline: {LABELS[name]}", errors[f"relative_{norm}"], _percent))
    parts = [_table(("relative error", "mean", "median", "largest"), rows)]
    if not content.measured.floors:
        parts.append(_paragraph(_FLOOR_MISSING, "note"))
    if "pod_regression" not in m["baselines"]:
        parts.append(
            _paragraph(
                "The regression baseline is not shown: it needs 10 training samples, and positive inputs "
                "where the network takes their logarithm.",
                "note",
            )
        )
    intro = (
        "Sample by sample ‖prediction − reference‖ / ‖reference‖, in norms of the finite-element functions, "
        "not of nodal values."
    )
    return _section("errors", "Errors", _paragraph(intro), *parts)


def _exactness(content: Content) -> str:
    rows = [
        _row([f"{name}: {how}", *(_tiny(content.metrics[key][k]) for k in ("mean", "median", "max"))])
        for key, (name, how) in _EXACT.items()
        if key in content.metrics
    ]
    words = (
        "The network chooses û in u = Z û + u_g and nothing else, so these hold up to round-off whether it "
        "is trained or not."
    )
    d = content.measured.dataset.discretisation
    if not d.constraint.fixed.any():
        words += " No value is prescribed here."
    table = _table(("deviation", "mean", "median", "largest"), rows)
    return _section("exact", "What is exact", _paragraph(words), table)


def _distribution(content: Content) -> str:
    errors = content.measured.errors["l2"]
    low, high = np.quantile(errors, [0.05, 0.95])
    words = f"Nine samples of ten have a relative L2 error between {low:.2%} and {high:.2%}."
    caption = "Share of the samples whose error is at most the abscissa; further to the left is better."
    return _section(
        "distribution",
        "Distribution over the samples",
        _paragraph(words),
        _image(distribution_figure(content.measured), caption),
    )


def _fields(content: Content) -> str:
    numbers = content.metrics["samples"]
    words = ", ".join(f"{label}: sample {number}" for label, number in numbers.items())
    caption = f"By relative L2 error, {words}. Reference and prediction of a row have one colour scale."
    return _section("fields", "Fields", _image(fields_picture(content.measured), caption))


def _trust(content: Content) -> list[str]:
    """Return the section on estimated errors; nothing where the equations are not known."""
    estimates = content.estimates
    if estimates is None:
        return []
    found = estimates.metrics()
    words = (
        "The residual of a prediction in the dual norm, η, by one multigrid cycle of the sample's own "
        "operator, estimates its energy error without its solution: of the discrete problem, not of what the "
        "mesh cannot resolve. "
    )
    if "effectivity" in found:
        e = found["effectivity"]
        words += (
            f"Over {found['samples']} samples η / error is {e['mean']:.3f} on average, from {e['min']:.3f} "
            f"to {e['max']:.3f}. "
        )
    lost = len(estimates.eta) - found["samples"]
    if lost:
        words += f"{lost} samples have no estimate, as their linearised operator is not positive definite. "
    if "covered" in found:
        words += (
            f"The upper estimate, for {found['level']:.0%} of samples like those of the calibration, holds "
            f"for {found['covered']:.1%} of these."
        )
    caption = "Error over estimate, both in the energy norm, relative to the solution and to the prediction."
    title = "Errors as residuals estimate them"
    return [_section("trust", title, _paragraph(words), _image(estimates_figure(estimates), caption))]


def _inputs(content: Content, limits: npt.NDArray[np.float64] | None) -> str:
    title = "Distance from the training inputs"
    if content.distance is None or limits is None:
        return _section("inputs", title, _paragraph("Not shown: it needs three training samples or more."))
    distance, dataset = content.distance, content.measured.dataset
    errors = content.measured.errors["l2"]
    words = (
        "Inputs are compared as the network sees them, in the mass norm. Distances are relative to the root "
        "mean square distance of the training inputs from their mean. An input is outside if it is farther "
        "from the training inputs, or from their mean in terms of their variances (Mahalanobis), than any of "
        "these is from the others, or has values that none of them has. What a network returns outside is "
        "extrapolation."
    )
    parts = [
        _paragraph(words),
        _image(
            distance_figure(distance, errors, limits), "Error over distance; a sample outside is a diamond."
        ),
    ]
    outside = np.flatnonzero(distance.outside)
    rows = [
        f"<tr><td>{dataset.numbers[i]}</td><td class=number>{errors[i]:.2%}</td>"
        f"<td class=number>{distance.nearest[i]:.3g}</td><td class=number>{distance.mahalanobis[i]:.3g}</td>"
        f"<td class=flag>{escape('; '.join(distance.reasons[i]))}</td></tr>"
        for i in outside[np.argsort(-errors[outside], kind="stable")][:_MOST]
    ]
    if rows:
        more = f", those with the {_MOST} largest errors" if len(outside) > _MOST else ""
        share = _paragraph(f"{len(outside)} of {len(dataset)} samples are outside{more}:")
        head = "".join(
            f"<th{' class=number' if k in (1, 2, 3) else ''}>{h}</th>"
            for k, h in enumerate(("sample", "L2 error", "distance", "Mahalanobis", "why"))
        )
        table = f'<table class="wide"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        parts += [share, table]
    else:
        parts.append(_paragraph("No sample is outside."))
    return _section("inputs", title, *parts)


def _learning(content: Content) -> str:
    if len(content.history.get("epoch", ())) == 0:
        missing = "Not shown: there is no log.csv beside the model."
        return _section("learning", "Learning curves", _paragraph(missing, "note"))
    caption = "Training loss and errors on the validation samples; learning rate."
    return _section("learning", "Learning curves", _image(learning_figure(content.history), caption))


def _timing(content: Content) -> str:
    s = content.metrics["seconds"]
    names = {
        "prediction": "one prediction",
        "prediction_in_batch": "a prediction in a batch",
        "fe_solve": "one finite-element solve, median of the data set",
        "training": "training",
    }
    rows = [_row([label, _time(s[key])]) for key, label in names.items() if key in s]
    words = f"Predictions on {content.metrics['versions']['device']}. "
    if "fe_solve" in s:
        one, many = s["fe_solve"] / s["prediction"], s["fe_solve"] / s["prediction_in_batch"]
        words += (
            f"A solve takes {one:.2g} times as long as one prediction and {many:.2g} times as long as one in "
            "a batch, if the data were made on this machine; the solver is that of the data set."
        )
    else:
        words += "The data set does not say how long its solves took."
    return _section("timing", "Time", _table(("what", "wall time"), rows), _paragraph(words, "note"))


def _settings(content: Content) -> str:
    dataset = content.measured.dataset
    pairs = [*content.model.items(), ("fingerprint", dataset.discretisation.fingerprint)]
    pairs += [(name, str(value)) for name, value in content.metrics["versions"].items()]
    parts = [_pairs(pairs)]
    if content.settings:
        parts.append(f"<pre>{escape(content.settings)}</pre>")
    else:
        parts.append(_paragraph("There is no config.toml beside the model.", "note"))
    return _section("settings", "Settings and versions", *parts)
