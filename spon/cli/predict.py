"""`spon predict`: inputs go in, fields come out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spon.cli.certificates import FILE, apply, find
from spon.cli.positions import positions
from spon.cli.ranks import alone
from spon.cli.refinement import REFINEMENTS, calibration_file
from spon.cli.run import Names, Run
from spon.errors import SponError

__all__ = ["add_parser"]

_MOST = 20  # samples that have a line of their own


def add_parser(verbs: Any) -> None:
    """Add the verb to the parser of the command."""
    parser = verbs.add_parser(
        "predict",
        help="apply a trained model to your own inputs",
        description="Apply a trained model to arrays (.npz, .npy), fields on the training mesh (.vtu, .vtk, "
        ".xdmf, .pvd) and numbers. Says how far the inputs lie from those of the training and, where "
        "the model carries its equations, estimates the errors from residuals. Needs DOLFINx for --mesh and "
        ".bp alone.",
    )
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="folder that spon train made, or its model.pt")
    add(
        "--input",
        metavar="NAME=SOURCE",
        nargs="+",
        required=True,
        type=_pair,
        help="a file, a quoted pattern of files with a sample each, or numbers with commas between them",
    )
    add(
        "-o",
        metavar="FILE",
        dest="target",
        required=True,
        help=".npz (DoFs in canonical order), .vtu (one sample), .pvd, .xdmf, .bp or .png",
    )
    add(
        "--mesh",
        metavar="FILE",
        help="another mesh of the geometry, to which predictions are interpolated, boundary values "
        "imposed again; or a discretisation (.h5), for networks that cross meshes: the inputs are on it",
    )
    add("--samples", metavar="I,I", type=positions, help="positions in the inputs, from 0; default: all")
    add("--data", metavar="FILE", help="data set of the training, for a model that does not have its names")
    add(
        "--refine",
        choices=REFINEMENTS,
        help="improve predictions by their own equations: "
        + "; ".join(f"{name}: {what}" for name, what in REFINEMENTS.items()),
    )
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ...; default: cpu")
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument(
        "--tolerance",
        metavar="TOL",
        type=_tolerance,
        help="of the energy error relative to that of the solution, such as 1e-6: samples whose estimate "
        "exceeds it are solved from the prediction, until a bound on their error does not",
    )
    trust.add_argument("--no-certificate", action="store_true", help="leave the error estimates out")
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> None:
    live = Path(chosen.target).suffix == ".bp" or (chosen.mesh is not None and not _cross(chosen.mesh))
    alone(_predict, needs_dolfinx=live)(chosen)


def _cross(mesh: str) -> bool:
    return Path(mesh).suffix == ".h5"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: NAME=FILE or NAME=NUMBER")
    return name, value


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: a number between 0 and 1, such as 1e-6")
    return value


def _predict(chosen: argparse.Namespace) -> None:
    import numpy as np

    from spon.data.field_inputs import read_inputs
    from spon.training.device import find_device

    _check_target(chosen)
    run = Run.find(chosen.run_folder)
    model, names = run.for_prediction(chosen.data, find_device(chosen.device))
    crossed = chosen.mesh is not None and _cross(chosen.mesh)
    known = run.input_range(model) if not crossed else None
    physics = None
    if crossed:
        model, physics = _on(model, chosen.mesh)
        print(f"evaluated on the mesh of {chosen.mesh}")
    elif chosen.refine is not None or not chosen.no_certificate:
        physics = run.physics(chosen.data)
    refinement = _refinement(chosen, model, physics)
    certificate = _certificate(chosen, model, physics, None if crossed else run.folder)
    d = model.discretisation
    inputs, positions, notes = read_inputs(d, _once(chosen.input), chosen.samples)
    for note in notes:
        print(note)
    given = _dataset(d, names, inputs, np.zeros((len(inputs), d.dofs)), positions)
    predicted = model.predict(inputs, shift=given.shifts)
    if not np.isfinite(predicted).all():
        raise SponError(f"the prediction of sample {_first_bad(predicted, positions)} is not finite")
    if refinement is not None:
        from spon.cli.refinement import refined

        predicted = refined(refinement, predicted, inputs, given.shifts)
        print(f"refined: {REFINEMENTS[chosen.refine]}")
    outcome = None
    if certificate is not None:
        outcome = _applied(chosen, certificate, predicted, given)
        predicted = predicted if outcome is None else outcome.values
    predictions = replace(given, outputs=predicted, statistics={} if outcome is None else outcome.statistics)
    if chosen.mesh is None or crossed:
        from spon.evaluation import boundary_error

        boundary = boundary_error(predictions, predicted)
        for note in _write(chosen.target, predictions):
            print(note)
    else:
        predicted, boundary = _elsewhere(chosen, predictions)
    distance = None if known is None else known.distance(model, inputs)
    certified = None if outcome is None else outcome.certified
    print("\n".join(_lines(predictions, predicted, boundary, distance, positions, certified)), flush=True)
    for note in [] if outcome is None else outcome.notes:
        print(note)
    print(chosen.target, flush=True)


def _refinement(chosen: argparse.Namespace, model: Any, physics: Any) -> Any:
    """Return the refinement asked for; None: none was."""
    from spon.cli.refinement import find
    from spon.training.device import find_device

    if chosen.refine is None:
        return None
    try:
        return find(chosen.refine, model, physics, find_device(chosen.device))
    except SponError as error:
        raise SponError(f"--refine {chosen.refine} needs the equations: {error}") from error


def _calibration(chosen: argparse.Namespace) -> str:
    """Return the name of the file that calibrates the certificates of such fields."""
    return FILE if chosen.refine is None else calibration_file(chosen.refine)


def _certificate(chosen: argparse.Namespace, model: Any, physics: Any, folder: Path | None) -> Any:
    """Return the certificate of a model; None, with a line that says why, where there is none."""
    from spon.training.device import find_device

    if chosen.no_certificate:
        return None
    try:
        calibration = None if folder is None else folder / _calibration(chosen)
        return find(model.discretisation, physics, find_device(chosen.device), calibration)
    except SponError as error:
        if chosen.tolerance is not None:
            raise SponError(f"--tolerance {chosen.tolerance:g} needs a certificate: {error}") from error
        print(f"no certificate can be given: {error}")
    return None


def _applied(chosen: argparse.Namespace, certificate: Any, predicted: Any, given: Any) -> Any:
    """Return the `Outcome`; None, with a line that says why, for inputs that the equations do not allow."""
    try:
        return apply(
            certificate, predicted, given.inputs, given.shifts, chosen.tolerance, _calibration(chosen)
        )
    except SponError as error:
        if chosen.tolerance is not None:
            raise
        print(f"no certificate can be given: {error}")
    return None


def _check_target(chosen: argparse.Namespace) -> None:
    """Refuse what cannot be written before the work, not after it."""
    from spon.data.field_outputs import SUFFIXES

    target, live = Path(chosen.target), (".bp",)
    resampled = chosen.mesh is not None and not _cross(chosen.mesh)
    if target.suffix not in (*SUFFIXES, *live):
        raise SponError(f"{target}: unknown output format; allowed: {', '.join((*SUFFIXES, *live))}")
    if not target.resolve().parent.is_dir():
        raise SponError(f"cannot write {target}: no such folder")
    if chosen.mesh is not None and not resampled and not Path(chosen.mesh).is_file():
        raise SponError(f"no such file: {chosen.mesh}")


def _once(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SponError(f"--input gives '{twice}' {names.count(twice)} times; allowed: once")
    return dict(pairs)


def _on(model: Any, path: str) -> tuple[Any, Any]:
    """Return the model on another discretisation, or on that of a data set with its equations; and these."""
    from spon.data.dataset import Dataset
    from spon.discretisation import Discretisation
    from spon.storage import open_hdf5

    with open_hdf5(path) as file:
        has_samples = "discretisation" in file
    if has_samples:
        dataset = Dataset.load(path)
        return model.on(dataset.discretisation, dataset.physics), dataset.physics
    return model.on(Discretisation.load(path)), None


def _dataset(d: Any, names: Names, inputs: Any, outputs: Any, positions: list[int]) -> Any:
    import numpy as np

    from spon.data.dataset import Dataset

    numbers = np.array(positions, dtype=np.int64)
    return Dataset(
        d,
        inputs,
        outputs,
        numbers,
        output_name=names.output,
        units=names.units,
        boundary_data=names.boundary_data,
    )


def _first_bad(values: Any, positions: list[int]) -> int:
    import numpy as np

    return positions[int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])]


def _write(target: str, predictions: Any) -> list[str]:
    from spon.data.field_outputs import write_prediction

    if Path(target).suffix != ".bp":
        return write_prediction(target, predictions)
    from spon.fem.rebuild import rebuilt_mesh, rebuilt_space

    d = predictions.discretisation
    space = rebuilt_space(rebuilt_mesh(d), d.output.element)
    _write_live(target, space, predictions, predictions.outputs)
    return []


def _write_live(target: str, space: Any, predictions: Any, values: Any) -> None:
    """Write functions of a live space."""
    from spon.fem.output import write

    suffix, name = Path(target).suffix, predictions.output_name
    if suffix in (".vtu", ".png"):
        if len(values) > 1:
            raise SponError(
                f"{target}: {len(values)} samples in a {suffix}; allowed: one (--samples), or .pvd, .xdmf"
            )
        write(target, space, {name: values[0]}, units=predictions.units)
    else:
        write(target, space, {name: values}, times=[float(k) for k in range(len(values))])


def _elsewhere(chosen: argparse.Namespace, predictions: Any) -> tuple[Any, Any]:
    """Interpolate to another mesh and write there; return values and boundary errors of the samples."""
    import numpy as np
    from mpi4py import MPI

    from spon.fem.mesh import read_mesh
    from spon.fem.rebuild import Elsewhere
    from spon.files import replacing

    mesh = read_mesh(chosen.mesh, MPI.COMM_SELF)
    elsewhere = Elsewhere(predictions.discretisation, mesh)
    values, prescribed = elsewhere(predictions.outputs)
    print(
        f"predicted on the training mesh and interpolated to {chosen.mesh} ({elsewhere.space.size} DoFs); "
        f"{len(elsewhere.dofs)} boundary values imposed again"
    )
    if Path(chosen.target).suffix == ".npz":
        arrays: dict[str, Any] = {predictions.output_name: values, "samples": predictions.numbers}
        if elsewhere.space.name.startswith(("P", "DP")):
            arrays["points"] = elsewhere.space.nodes
        arrays = {**predictions.statistics, **arrays}
        with replacing(chosen.target) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
    else:
        _write_live(chosen.target, elsewhere.space, predictions, values)
    gap = np.abs(values[:, elsewhere.dofs] - prescribed)
    return values, gap.max(axis=1, initial=0.0)


def _lines(
    predictions: Any,
    values: Any,
    boundary: Any,
    distance: Any,
    positions: list[int],
    certified: list[str] | None,
) -> list[str]:
    """Return a line for each sample, and a warning for each that is unlike those of the training."""
    import numpy as np

    name = predictions.output_name
    units = predictions.units.get(name, "")
    lines = []
    for row, position in enumerate(positions[:_MOST]):
        u = values[row]
        text = f"sample {position}: {name} from {u.min():.4g} to {u.max():.4g} {units}".rstrip()
        text += f", boundary error {boundary[row]:.1e}"
        if distance is not None:
            text += f", distance from the training inputs {distance.nearest[row]:.3g}"
        if certified is not None:
            text += f", {certified[row]}"
        lines.append(text)
        if distance is not None and distance.reasons[row]:
            lines.append(f"  warning: outside the training range: {'; '.join(distance.reasons[row])}")
    if len(positions) > _MOST:
        rest = range(_MOST, len(positions))
        text = f"and {len(rest)} more, largest boundary error {boundary.max():.1e}"
        if certified is not None:
            estimates = predictions.statistics["relative_error_estimate"][_MOST:]
            finite = estimates[np.isfinite(estimates)]
            if len(finite):
                text += f", largest estimated relative energy error {finite.max():.2e}"
            if len(finite) < len(estimates):
                text += f", no estimate for {len(estimates) - len(finite)}"
        if distance is not None:
            outside = [positions[k] for k in rest if distance.reasons[k]]
            text += f"; outside the training range: {', '.join(map(str, outside)) or 'none'}"
        lines.append(text)
    if distance is None:
        lines.append(
            "how far the inputs lie from those of the training is not known: no inputs.npz beside the model"
        )
    return lines
