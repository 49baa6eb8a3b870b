"""Constitutive laws with a potential, batched over points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.voigt import deviatoric_projection, deviatoric_square, require_strain, trace

__all__ = ["MATERIALS", "Deviatoric", "LinearElastic", "Material", "describe_material", "make_material"]


class Material(ABC):
    """A law σ = dψ/dε for small strains, in plane strain and in space.

    Strains are engineering Voigt vectors (`spon.multiscale.voigt`), float64, on any device; potentials in
    units of stress. A law of your own derives from this class and gives `potential`; stress and tangent
    follow by `torch.func`. Where a part of the potential is ½ ε · C ε with the same C at all strains,
    `quadratic` may name it: reduced models integrate that part exactly.

    Attributes:
        state: names of internal variables. Laws with history are not served yet: only the empty tuple is.
    """

    state: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def potential(self, strain: Tensor) -> Tensor:
        """Return ψ, (…), of strains (…, n); twice differentiable also at zero."""

    def quadratic(self, size: int) -> Tensor:
        """Return C, (n, n): ψ = ½ ε · C ε + the remainder. Zero unless a law says more."""
        return torch.zeros(size, size, dtype=torch.float64)

    def remainder(self, strain: Tensor) -> Tensor:
        """Return ψ − ½ ε · C ε, (…)."""
        C = self.quadratic(strain.shape[-1]).to(strain.device)
        return self.potential(strain) - 0.5 * torch.einsum("...i,ij,...j->...", strain, C, strain)

    @property
    def linear(self) -> bool:
        """True where there is no remainder."""
        return False

    def remainder_response(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient (batch, n) and Hessian (batch, n, n) of the remainder at strains (batch, n)."""
        gradient = torch.func.vmap(torch.func.grad(self.remainder))(strain)
        hessian = torch.func.vmap(torch.func.hessian(self.remainder))(strain)
        return gradient, hessian

    def remainder_columns(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient (n, m) and Hessian of the remainder at strains (n, m), components first.

        Of the Hessian its upper triangle row by row, (n (n + 1)/2, m): what reduced models integrate.
        """
        gradient, hessian = self.remainder_response(strain.T)
        i, j = torch.triu_indices(len(strain), len(strain), device=strain.device)
        return gradient.T, hessian[:, i, j].T

    def remainder_stress(self, strain: Tensor) -> Tensor:
        """Return the gradient of the remainder, (batch, n), at strains (batch, n)."""
        return torch.func.vmap(torch.func.grad(self.remainder))(strain)

    def response(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return stress and tangent.

        Args:
            strain: (batch, n), float64.

        Returns:
            (batch, n) dψ/dε and (batch, n, n) d²ψ/dε², symmetric.

        Raises:
            SponError: a strain of another length or type.
        """
        require_strain(strain)
        C = self.quadratic(strain.shape[-1]).to(strain.device)
        if self.linear:
            return strain @ C, C.expand(*strain.shape, strain.shape[-1]).clone()
        gradient, hessian = self.remainder_response(strain)
        return strain @ C + gradient, C + hessian

    def stress(self, strain: Tensor) -> Tensor:
        """Return dψ/dε, (batch, n), of strains (batch, n)."""
        require_strain(strain)
        linear = strain @ self.quadratic(strain.shape[-1]).to(strain.device)
        return linear if self.linear else linear + self.remainder_stress(strain)

    def tangent(self, strain: Tensor) -> Tensor:
        """Return d²ψ/dε², (batch, n, n), of strains (batch, n)."""
        return self.response(strain)[1]


@dataclass(frozen=True)
class LinearElastic(Material):
    """ψ = K (tr ε)²/2 + G ‖dev ε‖².

    Args:
        K: bulk modulus, positive.
        G: shear modulus, positive, in the same unit.
    """

    K: float
    G: float

    def __post_init__(self) -> None:
        _require_positive(self, "K", "G")

    @classmethod
    def from_young(cls, E: float, nu: float) -> LinearElastic:
        """Return the law with Young's modulus E and Poisson's ratio ν, −1 < ν < ½."""
        if not -1 < nu < 0.5:
            raise SponError(f"LinearElastic: nu = {nu}; allowed: between -1 and 0.5")
        return cls(E / (3 * (1 - 2 * nu)), E / (2 * (1 + nu)))

    @property
    def linear(self) -> bool:
        """True."""
        return True

    def potential(self, strain: Tensor) -> Tensor:
        """Return ψ, (…), of strains (…, n)."""
        return 0.5 * self.K * trace(strain) ** 2 + self.G * deviatoric_square(strain)

    def quadratic(self, size: int) -> Tensor:
        """Return C, (n, n)."""
        return _volumetric(self.K, size) + 2 * self.G * deviatoric_projection(size)


@dataclass(frozen=True)
class Deviatoric(Material):
    """σ = K tr ε 1 + α₁ e / (α₂ + ‖e‖), e = dev ε: shear softens, volume changes stay linear.

    The matrix of Eivazi et al. 2025 (arXiv 2504.07976), with the full deviator: in plane strain its zz
    component counts in ‖e‖. Only so has the law a potential, ψ = K (tr ε)²/2 + α₁ (‖e‖ − α₂ ln(1 + ‖e‖/α₂)).

    Args:
        K: bulk modulus, positive.
        alpha1: largest norm of the deviatoric stress, positive, in the same unit.
        alpha2: strain at which half of it is reached, positive.
    """

    K: float
    alpha1: float
    alpha2: float

    def __post_init__(self) -> None:
        _require_positive(self, "K", "alpha1", "alpha2")

    def potential(self, strain: Tensor) -> Tensor:
        """Return ψ, (…), of strains (…, n)."""
        return 0.5 * self.K * trace(strain) ** 2 + self.remainder(strain)

    def quadratic(self, size: int) -> Tensor:
        """Return C, (n, n)."""
        return _volumetric(self.K, size)

    def remainder(self, strain: Tensor) -> Tensor:
        """Return α₁ (‖e‖ − α₂ ln(1 + ‖e‖/α₂)), (…)."""
        square, a1, a2 = deviatoric_square(strain), self.alpha1, self.alpha2
        small = square < (1e-6 * a2) ** 2  # where the root has no derivative
        norm = torch.where(small, torch.ones_like(square), square).sqrt()
        return torch.where(small, 0.5 * a1 / a2 * square, a1 * (norm - a2 * torch.log1p(norm / a2)))

    def remainder_response(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient (batch, n) and Hessian (batch, n, n) of the remainder, in closed form."""
        P = deviatoric_projection(strain.shape[-1], strain.device)
        e = strain @ P
        norm = (strain * e).sum(-1).clamp_min(0).sqrt()
        secant = self.alpha1 / (self.alpha2 + norm)
        change = secant / (self.alpha2 + norm) / norm.clamp_min(1e-300)
        hessian = secant[..., None, None] * P - (change[..., None] * e)[..., None] * e[..., None, :]
        return secant[..., None] * e, hessian

    def remainder_columns(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient (n, m) and Hessian (n (n + 1)/2, m) of the remainder at strains (n, m)."""
        P = deviatoric_projection(len(strain), strain.device)
        i, j = torch.triu_indices(len(strain), len(strain), device=strain.device)
        e = P @ strain
        norm = (strain * e).sum(0).clamp_min(0).sqrt()
        secant = self.alpha1 / (self.alpha2 + norm)
        change = secant / ((self.alpha2 + norm) * norm.clamp_min(1e-300))
        hessian = torch.outer(P[i, j], secant).addcmul_((change * e)[i], e[j], value=-1)
        return secant * e, hessian

    def remainder_stress(self, strain: Tensor) -> Tensor:
        """Return the gradient of the remainder, (batch, n), in closed form."""
        e = deviatoric_projection(strain.shape[-1], strain.device) @ strain.T  # components first: quicker
        norm = (strain.T * e).sum(0).clamp_min(0).sqrt()
        return (self.alpha1 / (self.alpha2 + norm) * e).T


def _volumetric(K: float, size: int) -> Tensor:
    one = trace(torch.eye(size, dtype=torch.float64))
    return K * torch.outer(one, one)


def _require_positive(material: Any, *names: str) -> None:
    for name in names:
        if not getattr(material, name) > 0:
            label = type(material).__name__
            raise SponError(f"{label}: {name} = {getattr(material, name)}; allowed: positive numbers")


MATERIALS: dict[str, type[Any]] = {"LinearElastic": LinearElastic, "Deviatoric": Deviatoric}


def make_material(law: str, **parameters: float) -> Material:
    """Return a law by its name, with its parameters.

    Raises:
        SponError: an unknown law or parameter, or a value that it does not allow.
    """
    if law not in MATERIALS:
        raise SponError(f"no law '{law}'; allowed: {', '.join(MATERIALS)}")
    names = MATERIALS[law].__dataclass_fields__
    if set(parameters) != set(names):
        raise SponError(f"{law}: parameters {', '.join(sorted(parameters))}; allowed: {', '.join(names)}")
    material: Material = MATERIALS[law](**parameters)
    return material


def describe_material(material: Material) -> dict[str, Any]:
    """Return what `make_material` makes the law of.

    Raises:
        SponError: a law that is not one of spon's own: a file cannot keep its code.
    """
    name = type(material).__name__
    if MATERIALS.get(name) is not type(material):
        raise SponError(f"the law '{name}' cannot be written to a file; allowed: {', '.join(MATERIALS)}")
    return {"law": name, **asdict(material)}  # type: ignore[call-overload]
