"""Kernels by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.physics.kernels.base import Kernel
from spon.physics.kernels.diffusion import Diffusion
from spon.physics.kernels.elasticity import Elasticity
from spon.physics.kernels.neohookean import NeoHookean
from spon.physics.kernels.physics import Physics

__all__ = ["KERNELS", "make_kernel"]

KERNELS: dict[str, Callable[..., Kernel]] = {
    "diffusion": Diffusion,
    "elasticity": Elasticity,
    "neo-hookean": NeoHookean,
}


def make_kernel(
    discretisation: Discretisation,
    physics: Physics | None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Kernel:
    """Return the kernel of a data set's equations; needs no DOLFINx.

    Args:
        discretisation: of the data set.
        physics: of the data set.
        dtype: float32 or float64.
        device: of its tensors.

    Raises:
        SponError: no physics, an unknown kernel, or one that does not fit the discretisation.
    """
    if physics is None:
        raise SponError(f"no physics: the problem names no kernel; allowed: {', '.join(KERNELS)}")
    if physics.kernel not in KERNELS:
        raise SponError(f"kernel '{physics.kernel}'; allowed: {', '.join(KERNELS)}")
    return KERNELS[physics.kernel](discretisation, physics, dtype).to(device)
