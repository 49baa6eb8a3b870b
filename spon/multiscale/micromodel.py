"""What a macroscopic problem asks of the microscale: strain in, stress and tangent out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.finite_strain import FiniteStrainMaterial
from spon.multiscale.materials import Material
from spon.multiscale.voigt import DIMENSIONS, require_strain

__all__ = ["MaterialModel", "MicroModel", "Response"]


@dataclass(frozen=True)
class Response:
    """Answers to a batch of macroscopic strains.

    Args:
        stress: (batch, n), unit of the laws.
        tangent: (batch, n, n) d stress / d strain.
        indicator: (batch,) estimated relative error of the stress; None: nothing is estimated.
        failed: (batch,) True where there is no answer (its stress and tangent mean nothing).
        fallback: (batch,) True where a second model answered; None: there is no second model.
    """

    stress: Tensor
    tangent: Tensor
    indicator: Tensor | None
    failed: Tensor
    fallback: Tensor | None = None


class MicroModel(Protocol):
    """A surrogate, a FE solver of a RVE, or a plain law.

    Two more names are looked for, and need not be there:

    - `uniform`: True where the answer depends on the strain alone, so that a body at rest asks once;
    - `respond_together(strain, where, comm)`: collective over `comm`, called on ranks without points too, for
      models that share their work out; it raises on all ranks or on none.
    """

    strain_size: int

    def respond(self, strain: Tensor, where: Tensor | None = None) -> Response:
        """Return stress and tangent.

        Args:
            strain: (batch, n) macroscopic strains as engineering Voigt vectors, float64.
            where: (batch,) int64, numbers that stay with the points of a macroscopic problem, for models
                that start from the last answer at a point; None: no point is known.
        """


class MaterialModel:
    """A law as a microscale that is homogeneous.

    Args:
        material: of small strains, without history.
        strain_size: 3 (plane strain) or 6.

    Raises:
        SponError: a law with history or of the deformation gradient, or another size.
    """

    uniform = True

    def __init__(self, material: Material, strain_size: int = 3) -> None:
        require_law("the material", material)
        if strain_size not in DIMENSIONS:
            raise SponError(f"strain_size = {strain_size}; allowed: 3 (plane strain), 6")
        self.material, self.strain_size = material, strain_size

    def respond(self, strain: Tensor, where: Tensor | None = None) -> Response:
        """Return stress and tangent of the law."""
        require_strain(strain, self.strain_size)
        stress, tangent = self.material.response(strain)
        none = torch.zeros(len(strain), dtype=torch.bool, device=strain.device)
        return Response(stress, tangent, None, none)


def require_law(label: str, material: object) -> None:
    """Refuse laws that the microscale does not serve.

    Args:
        label: for the message.
        material: anything.

    Raises:
        SponError: no `Material`, or one with history.
    """
    if isinstance(material, FiniteStrainMaterial):
        raise SponError(f"{label}: a law of the deformation gradient; allowed: laws of small strains")
    if not isinstance(material, Material):
        raise SponError(f"{label}: {type(material).__name__}; allowed: a spon.Material")
    if material.state:
        names = ", ".join(material.state)
        raise SponError(f"{label}: a law with history ({names}); allowed: laws without internal variables")
