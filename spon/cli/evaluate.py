"""`spon evaluate`: errors of a trained model in numbers and in a report."""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
from pathlib import Path
from typing import Any

from spon.cli.ranks import alone
from spon.cli.run import Run
from spon.errors import SponError

__all__ = ["add_parser"]

_PARTS = ("train", "validation", "test")


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser(
        "evaluate",
        help="errors of a trained model, as a table and a report",
        description="Measure a trained model on samples that it has not seen: errors in finite-element norms "
        "beside two baselines, what is exact, time, and how far its inputs lie from those of the training. "
        "Writes metrics.json and report.html. Needs DOLFINx for --problem alone.",
    )
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="folder that spon train made, or its model.pt")
    add("--data", metavar="FILE", help="data set; default: the one of the training")
    add("--part", choices=_PARTS, default="test", help="samples to measure on; default: test")
    add(
        "-o",
        metavar="FOLDER",
        dest="target",
        help="for metrics.json and report.html; default: that of the run",
    )
    add(
        "--problem",
        metavar="PROBLEM",
        help="problem of the data, a file or a name: solves the samples on the mesh refined once more too, "
        "for the floor that the space sets",
    )
    add("--mesh", metavar="FILE", help="mesh of --problem; default: its own")
    add("--refinements", metavar="N", type=int, help="of that mesh, as for spon generate")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ...; default: cpu")
    parser.set_defaults(run=alone(_evaluate, needs_dolfinx=False))


def _evaluate(chosen: argparse.Namespace) -> None:
    from spon.data.dataset import Dataset
    from spon.evaluation import measure
    from spon.files import output_folder, replacing
    from spon.nn.input_range import InputRange
    from spon.report.content import Content
    from spon.report.page import page
    from spon.training.device import find_device

    run = Run.find(chosen.run_folder)
    device = find_device(chosen.device)
    path = run.data_file(chosen.data)
    if path is None:
        raise SponError(f"{run.folder} does not say which data it was trained on; allowed: --data FILE")
    folder = output_folder(chosen.target or run.folder)
    dataset = Dataset.load(path)
    train, validation, test = dataset.parts()
    part = {"train": train, "validation": validation, "test": test}[chosen.part]
    if len(part) == 0:
        raise SponError(f"{path}: the part '{chosen.part}' has no samples")
    part = _with_floor(part, chosen) if chosen.problem else part
    history = run.history()
    model = run.model(dataset.discretisation, device)
    measured = measure(model, part, _baselines(train, model.transform == "log"))
    _check_finite(measured)
    ranked = measured.ranked()
    metrics: dict[str, Any] = measured.metrics()
    metrics["seconds"] = _seconds(model, part, history)
    metrics["samples"] = {label: int(part.numbers[i]) for label, i in ranked.items()}
    metrics["part"] = {"name": chosen.part, "samples": len(part), "training_samples": len(train)}
    known = InputRange.of(model, train) if len(train) >= 3 else None
    distance = None
    if known is not None:
        known.save(folder / "inputs.npz")
        distance = known.distance(model, part.inputs)
        metrics["outside"] = [int(n) for n in part.numbers[distance.outside]]
    metrics["fingerprint"] = dataset.discretisation.fingerprint
    metrics["versions"] = _versions(device)
    estimates, trust = _estimates(run, folder, model, measured, dataset.parts()[1], device)
    if estimates is not None:
        metrics["certificate"] = estimates.metrics()
    content = Content(
        f"{run.folder.resolve().name}: {', '.join(dataset.discretisation.inputs)} ↦ {dataset.output_name}",
        chosen.part,
        train,
        measured,
        metrics,
        distance,
        history,
        run.settings,
        _described(model, path),
        estimates,
    )
    html = page(content, None if known is None else known.limits)
    with replacing(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(html, encoding="utf-8")
    print("\n".join([_table(metrics), *trust]), flush=True)
    print(f"\n{folder / 'metrics.json'}\n{folder / 'report.html'}", flush=True)


def _with_floor(part: Any, chosen: argparse.Namespace) -> Any:
    """The samples with the errors of their finite-element solutions among the statistics."""
    from dataclasses import replace

    from mpi4py import MPI

    from spon._compat import require_dolfinx

    require_dolfinx()
    from spon.physics.assembled.floor import fe_floor
    from spon.physics.assembled.loading import problem_class

    kind = problem_class(chosen.problem, None)
    problem = kind.from_mesh(chosen.mesh, MPI.COMM_SELF, refinements=chosen.refinements)
    problem.discretisation.require(part.discretisation.fingerprint, "the data set")
    floor = fe_floor(problem, part, MPI.COMM_SELF)
    errors = {
        "fe_floor_l2": floor.best_l2,
        "fe_floor_h1": floor.best_h1,
        "fe_solve_l2": floor.solve_l2,
        "fe_solve_h1": floor.solve_h1,
    }
    return replace(part, statistics={**part.statistics, **errors})


def _estimates(
    run: Run, folder: Path, model: Any, measured: Any, validation: Any, device: Any
) -> tuple[Any, list[str]]:
    """Return the `Estimates` of the samples, None where there are none, and a line for the table.

    Calibrations that the run lacks are made on the validation samples, and saved.
    """
    from spon.cli.certificates import FILE, calibrate_refined, compared, find

    part = measured.dataset
    if part.physics is None:
        return None, []
    lines = []
    try:
        certificate = find(model.discretisation, part.physics, device, run.folder / FILE)
        if certificate.effectivity is None:
            lines = _calibrate(certificate, model, validation, folder / FILE)
        found = compared(certificate, measured.predicted, part)
        if not lines:  # there are validation samples enough
            calibrate_refined(folder, certificate, model, part.physics, validation, run.folder)
    except SponError as error:
        return None, [f"no error estimates: {error}"]
    m = found.metrics()
    if "effectivity" not in m:
        return found, ["no error estimates: no sample has a positive definite tangent"]
    e = m["effectivity"]
    line = (
        f"estimated energy error / energy error: mean {e['mean']:.3f}, from {e['min']:.3f} to {e['max']:.3f}"
    )
    if "covered" in m:
        line += f"; the upper estimate ({m['level']:.0%}) holds for {m['covered']:.1%}"
    return found, [line, *lines]


def _calibrate(certificate: Any, model: Any, validation: Any, path: Path) -> list[str]:
    """Calibrate and save; return a line that says why, where that is not possible."""
    from spon.cli.certificates import calibrated

    try:
        calibrated(certificate, model, validation).save(path, model.fingerprint)
    except SponError as error:
        return [f"error estimates are not calibrated: {error}"]
    return []


def _baselines(train: Any, logarithm: bool) -> dict[str, Any]:
    from spon.baselines import MeanOutput, PodRegression

    found: dict[str, Any] = {}
    if len(train) >= 10:
        found["pod_regression"] = PodRegression(train, logarithm)
    return found | {"mean_output": MeanOutput(train)}


def _check_finite(measured: Any) -> None:
    import numpy as np

    for norm, errors in measured.errors.items():
        bad = np.flatnonzero(~np.isfinite(errors))
        if len(bad):
            raise SponError(
                f"the relative error of sample {measured.dataset.numbers[bad[0]]} in the {norm} norm is "
                f"{errors[bad[0]]}; allowed: reference outputs that are not zero, finite predictions"
            )


def _seconds(model: Any, part: Any, history: Any) -> dict[str, float]:
    from spon.cli.timing import median_seconds

    def shift(count: int) -> Any:
        return None if part.shifts is None else part.shifts[:count]

    one, many = part.inputs[:1], part.inputs
    seconds = {
        "prediction": median_seconds(lambda: model.predict(one, shift=shift(1))),
        "prediction_in_batch": median_seconds(lambda: model.predict(many, shift=shift(len(many))))
        / len(many),
    }
    if "seconds" in part.statistics:
        seconds["fe_solve"] = float(statistics.median(part.seconds.tolist()))
    elapsed = [s for s in history.get("seconds", ()) if math.isfinite(s)]
    if elapsed:
        seconds["training"] = float(elapsed[-1])
    return seconds


def _versions(device: Any) -> dict[str, Any]:
    import numpy
    import scipy
    import torch

    import spon

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu(torch.get_num_threads())
    return {
        "spon": spon.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": name,
    }


def _cpu(threads: int) -> str:
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def _described(model: Any, path: Path) -> dict[str, str]:
    return {
        "processor": type(model.processor).__name__,
        "parameters": str(sum(p.numel() for p in model.parameters())),
        "transform": model.transform,
        "data set": path.name,
    }


def _table(metrics: dict[str, Any]) -> str:
    from spon.report.figures import LABELS, NORMS

    part = metrics["part"]
    label = {"train": "training"}.get(part["name"], part["name"])
    head = f"relative error on {part['samples']} {label} samples"
    lines = [f"{head:<42}{'mean':>10}{'median':>10}{'worst':>10}"]

    def row(name: str, values: dict[str, float], form: str = ".3%") -> None:
        lines.append(f"  {name:<40}" + "".join(f"{values[k]:>10{form}}" for k in ("mean", "median", "max")))

    for norm, title in NORMS.items():
        if f"relative_{norm}" not in metrics:
            continue
        lines.append(f"{title} norm")
        row(LABELS["network"], metrics[f"relative_{norm}"])
        for floor in ("fe_floor", "fe_solve"):
            if f"{floor}_{norm}" in metrics:
                row(LABELS[floor], metrics[f"{floor}_{norm}"])
        for name, errors in metrics["baselines"].items():
            row(f"baseline: {LABELS[name]}", errors[f"relative_{norm}"])
    lines.append("exact by construction")
    for key in ("boundary_error", "constraint_violation", "mean_value", "divergence"):
        if key in metrics:
            row(key.replace("_", " "), metrics[key], ".1e")
    s = metrics["seconds"]
    solve = f"one FE solve {1e3 * s['fe_solve']:.2f} ms; " if "fe_solve" in s else ""
    lines += [
        "",
        f"{solve}one prediction {1e3 * s['prediction']:.2f} ms, in a batch "
        f"{1e3 * s['prediction_in_batch']:.2f} ms each",
    ]
    if "outside" in metrics:
        lines.append(
            f"{len(metrics['outside'])} of {part['samples']} inputs are unlike those of the training"
        )
    return "\n".join(lines)
