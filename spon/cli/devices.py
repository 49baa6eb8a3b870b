"""The device that a command was asked to use."""

from __future__ import annotations

from typing import Any

from spon.errors import SponError

__all__ = ["find_device"]


def find_device(name: str) -> Any:
    """Return the torch device of a name.

    Raises:
        SponError: an unknown name, or a GPU where torch sees none.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SponError(f"device '{name}'; allowed: cpu, cuda, cuda:0, ...") from error
    if device.type not in ("cpu", "cuda"):
        raise SponError(f"device '{name}'; allowed: cpu, cuda, cuda:0, ...")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise SponError(f"device '{name}', but torch {torch.__version__} sees no CUDA GPU; allowed: cpu")
        if (device.index or 0) >= count:
            raise SponError(f"device '{name}'; allowed: cpu, cuda:0 to cuda:{count - 1}")
    return device
