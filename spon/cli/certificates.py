"""Certificates of the verbs: found, calibrated, and applied to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import SponError

__all__ = ["FILE", "Outcome", "apply", "calibrate_refined", "calibrated", "compared", "find"]

FILE = "certificate.json"
_BATCH = 64  # samples at a time
_MOST = 256  # validation samples that estimates are calibrated on

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """Predictions after certification and correction.

    Args:
        values: (samples, DoFs).
        statistics: name → (samples,).
        notes: what was done, in words.
        certified: for each sample, what to add to its line.
    """

    values: Floats
    statistics: dict[str, npt.NDArray[Any]]
    notes: list[str]
    certified: list[str]


def find(discretisation: Any, physics: Any, device: Any, calibration: Path | None) -> Any:
    """Return the `KernelCertificate` of a model.

    Args:
        discretisation: of the model.
        physics: on it; None where they are not known.
        device: of torch.
        calibration: file of `Effectivity.save`, used if it is there.

    Raises:
        SponError: why no certificate can be given.
    """
    from spon.physics.kernels.certificate import Effectivity
    from spon.physics.kernels.kernel_certificate import KernelCertificate

    if physics is None:
        raise SponError("the model does not carry its equations (or spon has no kernel for them)")
    certificate = KernelCertificate(discretisation, physics, device)
    if calibration is not None and calibration.is_file():
        certificate.effectivity = Effectivity.load(calibration, discretisation.fingerprint)
    return certificate


def calibrated(certificate: Any, model: Any, samples: Any, refinement: Any = None) -> Any:
    """Return the `Effectivity` on samples that the model was not trained on, the first 256.

    Args:
        certificate: of the model.
        model: whose predictions are certified.
        samples: with their solutions.
        refinement: of the predictions; their errors have another ratio to η afterwards.

    Raises:
        SponError: too few; see `Certificate.calibrate`.
    """
    from spon.cli.refinement import refined

    some = samples[:_MOST]
    u = model.predict(some.inputs, shift=some.shifts)
    if refinement is not None:
        u = refined(refinement, u, some.inputs, some.shifts)
    return certificate.calibrate(*_tensors(certificate, u, some.inputs, some.outputs))


def calibrate_refined(
    folder: Path, certificate: Any, model: Any, physics: Any, samples: Any, known: Path | None = None
) -> list[str]:
    """Calibrate the estimates of refined predictions, and save each in a file of its own.

    Args:
        folder: for the files.
        certificate: of the model; it keeps the last calibration.
        model: whose predictions are refined.
        physics: on its mesh.
        samples: as for `calibrated`.
        known: a folder where files may be already, which are not made again.

    Returns:
        A line for each refinement that has none, with the reason.
    """
    from spon.cli.refinement import REFINEMENTS, calibration_file, find

    device, lines = certificate.solver.shift.device, []
    for name in REFINEMENTS:
        if known is not None and (known / calibration_file(name)).is_file():
            continue
        try:
            found = calibrated(certificate, model, samples, find(name, model, physics, device))
        except SponError as error:
            lines.append(f"not for --refine {name}: {error}")
        else:
            found.save(folder / calibration_file(name), model.fingerprint)
    return lines


def apply(
    certificate: Any,
    predicted: Floats,
    inputs: Floats,
    shifts: Floats | None,
    tolerance: float | None,
    file: str = FILE,
) -> Outcome:
    """Certify predictions, and correct those that miss the tolerance, if there is one.

    Args:
        certificate: of the model.
        predicted: (samples, DoFs).
        inputs: (samples, DoFs of all inputs).
        shifts: (samples, DoFs), None for those of the discretisation.
        tolerance: of the relative energy error; None: certify alone.
        file: where a calibration would have been, for the notes.

    Raises:
        SponError: as `KernelCertificate.correct`.
    """
    u, m = _tensors(certificate, predicted, inputs)
    found = certificate(u, m)
    calibration = certificate.effectivity
    eta, relative = (t.cpu().numpy() for t in (found.eta, found.relative))
    none = np.zeros(len(eta), dtype=np.int64)
    statistics = {"eta": eta, "relative_error_estimate": relative, "iterations": none}
    lines = [_estimate(e, r) for e, r in zip(eta, relative, strict=True)]
    if found.upper is not None:
        upper = found.upper.cpu().numpy()
        statistics["relative_error_upper"] = upper
        lines = [
            f"{line} (at most {b:.2e})" if np.isfinite(b) else line
            for line, b in zip(lines, upper, strict=True)
        ]
    notes = [_meaning(calibration, file)]
    values = predicted
    if tolerance is not None:
        shift = None if shifts is None else _tensors(certificate, shifts)[0]
        corrected = certificate.correct(u, m, shift, tolerance, compare=True)
        values = corrected.values.cpu().numpy()
        for name in ("iterations", "bound", "from_zero"):
            statistics[_NAMES[name]] = getattr(corrected, name).cpu().numpy()
        which = corrected.corrected.cpu().numpy()
        notes.append(_summary(which, statistics, tolerance))
        lines = [
            f"{line}; corrected in {n} iterations to at most {b:.2e}" if was else f"{line}; kept"
            for line, was, n, b in zip(
                lines, which, statistics["iterations"], statistics["relative_error_bound"], strict=True
            )
        ]
    return Outcome(values, statistics, notes, lines)


def compared(certificate: Any, predicted: Floats, samples: Any) -> Any:
    """Return the `Estimates` of predictions for samples whose solutions are known.

    Raises:
        SponError: inputs that the equations do not allow.
    """
    from spon.report.content import Estimates

    pieces = []
    for k in range(0, len(samples), _BATCH):
        some = slice(k, k + _BATCH)
        arrays = predicted[some], samples.inputs[some], samples.outputs[some]
        u, m, reference = _tensors(certificate, *arrays)
        found = certificate(u, m)
        # at the solution, where a tangent is positive definite in any case
        error, size = (certificate.norm.energy(v, reference, m) for v in (u - reference, reference))
        columns = found.eta, error, found.relative, error / size
        pieces.append([t.cpu().numpy() for t in columns])
    c = certificate.effectivity
    factor = None if c is None else (c.upper, c.level)
    eta, error, estimate, true = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return Estimates(eta, error, estimate, true, factor)


_NAMES = {"iterations": "iterations", "bound": "relative_error_bound", "from_zero": "iterations_from_zero"}


def _tensors(certificate: Any, *arrays: Floats) -> Sequence[Any]:
    import torch

    device = certificate.solver.shift.device
    return [torch.as_tensor(array, dtype=torch.float64, device=device) for array in arrays]


def _estimate(eta: float, relative: float) -> str:
    if not np.isfinite(eta):
        return "no error estimate: the tangent at the prediction is not positive definite"
    return f"η {eta:.3g}, estimated relative energy error {relative:.2e}"


def _meaning(calibration: Any, file: str) -> str:
    text = (
        "certificates are estimates, of the discrete problem: not of what the mesh cannot resolve; η: dual "
        "norm of the residual by one multigrid cycle; "
    )
    if calibration is None:
        return text + f"not calibrated: no {file} beside the model"
    c = calibration
    return text + (
        f"calibrated on {c.samples} validation samples, where error / η has the median {c.median:.3f}; "
        f"'at most': {c.upper:.3f} η, as for {c.level:.0%} of them"
    )


def _summary(which: Any, statistics: dict[str, Any], tolerance: float) -> str:
    text = f"tolerance {tolerance:g}: {which.sum()} of {len(which)} samples corrected"
    if not which.any():
        return text
    taken, zero = (statistics[n][which].mean() for n in ("iterations", "iterations_from_zero"))
    saved = f"{1 - taken / zero:.0%} saved by the prediction" if taken < zero else "the prediction saves none"
    return f"{text}, {taken:.1f} iterations each, {zero:.1f} from zero: {saved}"
