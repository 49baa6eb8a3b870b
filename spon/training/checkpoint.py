"""Save and load trained models."""

from __future__ import annotations

from pathlib import Path

import torch

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.files import replacing
from spon.nn.operator import OperatorNetwork
from spon.nn.processors import PROCESSORS, find_processor

__all__ = ["load_model", "save_model"]

FORMAT = 1


def save_model(path: str | Path, model: OperatorNetwork) -> None:
    """Write parameters, normalisation, processor settings and the fingerprint; no matrices.

    Args:
        path: file to write or replace.
        model: with a processor that comes with spon.

    Raises:
        SponError: a processor of another class, or an unwritable path.
    """
    name = type(model.processor).__name__
    if name not in PROCESSORS or type(model.processor) is not find_processor(name):
        raise SponError(f"cannot save a processor {name}; allowed: {', '.join(PROCESSORS)}")
    content = {
        "format": FORMAT,
        "fingerprint": model.fingerprint,
        "transform": model.transform,
        "processor": name,
        "settings": model.processor.settings,
        "state": model.state_dict(),
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_model(path: str | Path, discretisation: Discretisation, device: str = "cpu") -> OperatorNetwork:
    """Load a model that was saved with the same discretisation. Runs no code from the file.

    Args:
        path: checkpoint.
        discretisation: from the data set or made anew; its fingerprint must be the model's.
        device: where the model goes.

    Raises:
        SponError: no such file, not a checkpoint, another format or another discretisation.
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
    discretisation.require(content["fingerprint"], str(path))
    processor = find_processor(content["processor"])(discretisation, **content["settings"])
    model = OperatorNetwork(discretisation, processor, content["transform"])
    model.load_state_dict(content["state"])
    return model.to(device).eval()
