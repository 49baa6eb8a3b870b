"""Where a network lives."""

from __future__ import annotations

import torch

from spon.errors import SponError

__all__ = ["find_device"]


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """Return a device that torch has.

    Args:
        name: "cpu", "cuda" (the GPU of this process) or "cuda:1".
        local_rank: number of this process on its machine; processes take the GPUs in turn.

    Raises:
        SponError: another name, or a GPU that is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SponError(f"device '{name}'; allowed: cpu, cuda, cuda:0, ...") from error
    if device.type not in ("cpu", "cuda"):
        raise SponError(f"device '{name}'; allowed: cpu, cuda, cuda:0, ...")
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise SponError(f"device '{name}', but torch {torch.__version__} sees no CUDA GPU; allowed: cpu")
    count = torch.cuda.device_count()
    number = local_rank % count if device.index is None else device.index
    if number >= count:
        raise SponError(f"device '{name}'; allowed: cpu, cuda, cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", number)
