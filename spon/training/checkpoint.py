"""Save and load trained models: one file with all that a prediction needs."""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from spon.data.dataset import Dataset
from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.files import replacing
from spon.nn.operator import OperatorNetwork
from spon.nn.processors import PROCESSORS, find_processor
from spon.physics.kernels.physics import Physics

__all__ = ["load_model", "load_physics", "model_content", "read_model", "save_model", "write_model"]

FORMAT = 2

# arguments of the network beside discretisation and processor, which are its attributes too
NETWORK = tuple(inspect.signature(OperatorNetwork).parameters)[2:]

_KEYS = (
    "fingerprint",
    "discretisation",
    "network",
    "processor",
    "settings",
    "state",
    "config",
    "equations",
    "data",
)


def save_model(
    path: str | Path,
    model: OperatorNetwork,
    dataset: Dataset | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write a model with its discretisation, so that it can be used without any other file.

    Args:
        path: file to write or replace.
        model: with a processor that comes with spon.
        dataset: whose names, units, boundary data and physics are kept, as `read_model` gives them.
        config: of the run, plain values.

    Raises:
        SponError: a processor of another class, or an unwritable path.
    """
    write_model(path, model_content(model, dataset, config))


def model_content(
    model: OperatorNetwork, dataset: Dataset | None = None, config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what `save_model` writes, as plain values and tensors.

    Raises:
        SponError: a processor that does not come with spon.
    """
    name = type(model.processor).__name__
    if name not in PROCESSORS or type(model.processor) is not find_processor(name):
        raise SponError(f"cannot save a processor {name}; allowed: {', '.join(PROCESSORS)}")
    equations = model.processor.physics
    if equations is None and dataset is not None:
        equations = dataset.physics
    return {
        "format": FORMAT,
        "fingerprint": model.fingerprint,
        "discretisation": _packed(model.discretisation),
        "network": {key: getattr(model, key) for key in NETWORK},
        "processor": name,
        "settings": model.processor.settings,
        "state": model.state_dict(),
        "equations": None if equations is None else _packed(equations),
        "config": None if config is None else dict(config),
        "data": None if dataset is None else _description(dataset),
    }


def write_model(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write what `model_content` returned."""
    with replacing(path) as temporary:
        torch.save(dict(content), temporary)


def read_model(path: str | Path) -> dict[str, Any]:
    """Read the parts of a model file; runs no code from it.

    Returns:
        `fingerprint`, `discretisation` (uint8, the bytes of its HDF5 file), `network` and `settings`
        (arguments of network and processor), `processor` (name), `state`, `config` of the run or None,
        `equations` (None, or uint8, the bytes of an HDF5 file; see `load_physics`), and `data` or None:
        `inputs` (names), `output_name`, `units` and `boundary_data`.

    Raises:
        SponError: no such file, not a checkpoint, another format, or parts missing.
    """
    if not Path(path).is_file():
        raise SponError(f"no such checkpoint: {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content["format"]
    except Exception as error:  # torch raises many kinds
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SponError(f"{path}: not a readable checkpoint: {first}") from error
    if found != FORMAT:
        raise SponError(f"{path}: checkpoint format {found}; allowed: {FORMAT}")
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise SponError(f"{path}: no {', '.join(missing)} in the checkpoint; allowed: {', '.join(_KEYS)}")
    out: dict[str, Any] = content
    return out


def load_model(
    path: str | Path, discretisation: Discretisation | None = None, device: str | torch.device = "cpu"
) -> OperatorNetwork:
    """Load a model. Runs no code from the file.

    Args:
        path: checkpoint.
        discretisation: in place of the one in the file, with the same fingerprint, as to share memory
            with a data set. A network that crosses meshes does so by its method `on`.
        device: where the model goes.

    Raises:
        SponError: no such file, not a checkpoint, another format or another discretisation;
            parts missing; parameters that do not fit the processor.
    """
    content = read_model(path)
    if discretisation is None:
        discretisation = _unpacked(content["discretisation"], path)
    discretisation.require(content["fingerprint"], str(path))
    try:
        processor = find_processor(content["processor"])(discretisation, **content["settings"])
        if (equations := _unpacked_physics(content["equations"], path)) is not None:
            processor.use(equations)
        model = OperatorNetwork(discretisation, processor, **content["network"])
        model.load_state_dict(content["state"])
    except (TypeError, RuntimeError, ValueError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines())
        raise SponError(f"{path}: does not fit a {content['processor']}: {reason}") from error
    return model.to(device).eval()


def load_physics(path: str | Path) -> Physics | None:
    """Return the equations that a model was trained on; None where its file has none.

    Raises:
        SponError: as `read_model`; damaged equations.
    """
    return _unpacked_physics(read_model(path)["equations"], path)


def _packed(what: Discretisation | Physics) -> torch.Tensor:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        what.write(file)
    return torch.from_numpy(np.frombuffer(buffer.getvalue(), np.uint8).copy())


def _unpacked(content: torch.Tensor, path: str | Path) -> Discretisation:
    try:
        with h5py.File(io.BytesIO(content.numpy().tobytes()), "r") as file:
            return Discretisation.read(file)
    except (OSError, SponError) as error:
        raise SponError(f"{path}: its discretisation is damaged: {error}") from error


def _unpacked_physics(content: torch.Tensor | None, path: str | Path) -> Physics | None:
    if content is None:
        return None
    try:
        with h5py.File(io.BytesIO(content.numpy().tobytes()), "r") as file:
            return Physics.read(file)
    except (OSError, KeyError, ValueError, SponError) as error:
        raise SponError(f"{path}: its equations are damaged: {error}") from error


def _description(dataset: Dataset) -> dict[str, Any]:
    return {
        "inputs": list(dataset.discretisation.inputs),
        "output_name": dataset.output_name,
        "units": dict(dataset.units),
        "boundary_data": dict(dataset.boundary_data),
    }
