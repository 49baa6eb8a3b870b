"""A polynomial potential of the macroscopic strain: one linear least-squares problem."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.macro_potential import MacroPotential
from spon.multiscale.micromodel import Response
from spon.multiscale.monomials import Monomials
from spon.multiscale.sobolev import SobolevLabels

__all__ = ["PolynomialPotential"]

_DEGREE = {3: 16, 6: 6}


class PolynomialPotential(MacroPotential):
    """W(E) = Σ_k c_k x^α_k, x = E/reach, with the even degrees |α_k| = 2, 4, … alone.

    It need not be convex, and outside the trained box it soon is not: a strain there at which the tangent is
    not positive definite has no answer.

    Args:
        box: (2, n) trained strains.
        coefficients: c, in the order of `Monomials`, unit of stress.
        reach: (n,) strains that scale the box.
        degree: the largest |α|, even.
        error, reduction, least: see `MacroPotential`.

    Raises:
        SponError: a degree that is odd or below 2.
    """

    kept: ClassVar[tuple[str, ...]] = ("coefficients", "reach", "degree")
    coefficients: Tensor
    reach: Tensor
    degree: Tensor

    def __init__(
        self,
        box: Tensor,
        coefficients: Tensor,
        reach: Tensor,
        degree: Tensor,
        error: float,
        reduction: float,
        least: float,
    ) -> None:
        super().__init__(box, error, reduction, least)
        n = self.strain_size
        i, j = torch.triu_indices(n, n)
        self.monomials = Monomials(n, int(degree))
        first = torch.einsum("akm,k->am", self.monomials.first, coefficients) / reach[:, None]
        second = torch.einsum("akm,k->am", self.monomials.second, coefficients)
        values = {"coefficients": coefficients, "reach": reach, "degree": degree}
        for name, value in values.items():
            self.register_buffer(name, value)
        self.register_buffer("_first", first, persistent=False)
        self.register_buffer("_second", second / (reach[i] * reach[j])[:, None], persistent=False)

    @classmethod
    def fitted(
        cls, found: SobolevLabels, box: Tensor, seed: int, degree: int | None = None
    ) -> PolynomialPotential:
        """Solve the least-squares problem of the labels.

        Args:
            found: labels.
            box: (2, n) trained strains.
            seed: not used.
            degree: even; None: 16 in plane strain, 6 in space.

        Raises:
            SponError: a degree that is odd or below 2; fewer labels than coefficients.
        """
        chosen = _DEGREE[found.size] if degree is None else degree
        monomials = Monomials(found.size, chosen)
        columns = found.flat(monomials.derivatives(found.x))
        if columns.shape[0] > columns.shape[1]:
            raise SponError(
                f"{len(columns)} coefficients of degree {chosen} from {columns.shape[1]} labels; "
                "allowed: more samples, or a smaller degree"
            )
        coefficients = torch.linalg.lstsq(columns.T, found.flat(found.target)[:, None], driver="gelsd")
        values = found.energy * coefficients.solution[:, 0]
        return cls(box, values, found.reach, torch.tensor(chosen), 1.0, 1.0, 1.0)

    def derivatives(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient (n, batch) and upper triangle of the Hessian at E (n, batch)."""
        odd, even = self.monomials.values(strain / self.reach[:, None])
        return self._first @ odd, self._second @ even

    def respond_within(self, strain: Tensor) -> Response:
        """Return the response to strains (batch, n)."""
        found = super().respond_within(strain)
        outside = self.outside(strain) & ~found.failed
        info = torch.linalg.cholesky_ex(found.tangent[outside]).info
        failed = found.failed.clone()
        failed[outside] = info > 0
        return dataclasses.replace(found, failed=failed)
