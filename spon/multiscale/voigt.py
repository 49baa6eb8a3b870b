"""Strains as engineering Voigt vectors.

Plane strain: (xx, yy, γxy); in space: (xx, yy, zz, γyz, γxz, γxy), with γ = 2 ε. Stresses in the same order,
without the factor 2, so that σ · ε is the work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spon.errors import SponError

__all__ = [
    "COMPONENTS",
    "DIMENSIONS",
    "deviatoric_projection",
    "deviatoric_square",
    "require_strain",
    "trace",
]

DIMENSIONS = {3: 2, 6: 3}  # components → dimension of space
COMPONENTS = {3: ("xx", "yy", "xy"), 6: ("xx", "yy", "zz", "yz", "xz", "xy")}


def require_strain(strain: Tensor, size: int | None = None) -> None:
    """Refuse what is no strain.

    Args:
        strain: (…, n).
        size: n; None: 3 or 6.

    Raises:
        SponError: another number of components, another type of number, or not finite.
    """
    allowed = (size,) if size is not None else tuple(DIMENSIONS)
    found = strain.shape[-1] if strain.dim() else 0
    if found not in allowed:
        text = " or ".join(map(str, allowed))
        raise SponError(f"a strain of {found} components; allowed: {text} (plane strain 3, in space 6)")
    if strain.dtype != torch.float64:
        raise SponError(f"strains of type {strain.dtype}; allowed: torch.float64")


def trace(strain: Tensor) -> Tensor:
    """Return tr ε, (…), of strains (…, n)."""
    return strain[..., : DIMENSIONS[strain.shape[-1]]].sum(-1)


def deviatoric_square(strain: Tensor) -> Tensor:
    """Return ‖dev ε‖² = ε : ε − (tr ε)²/3, (…), of strains (…, n).

    The deviator is the full one: in plane strain its zz component, −tr ε/3, counts.
    """
    normal = DIMENSIONS[strain.shape[-1]]
    square = (strain[..., :normal] ** 2).sum(-1) + 0.5 * (strain[..., normal:] ** 2).sum(-1)
    return square - trace(strain) ** 2 / 3


def deviatoric_projection(size: int, device: torch.device | None = None) -> Tensor:
    """Return P, (n, n), symmetric: P ε is the deviator as a stress, and ε · P ε = ‖dev ε‖²."""
    normal = DIMENSIONS[size]
    P = torch.diag(torch.tensor([1.0] * normal + [0.5] * (size - normal), dtype=torch.float64, device=device))
    P[:normal, :normal] -= 1 / 3
    return P
