"""A convex potential of the macroscopic strain: the quickest of the surrogates."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.convex_fitting import fit_terms
from spon.multiscale.macro_potential import MacroPotential
from spon.multiscale.potential import places
from spon.multiscale.sobolev import SobolevLabels

__all__ = ["ConvexPotential"]

_ITERATIONS = {3: 150, 6: 40}


class ConvexPotential(MacroPotential):
    """W(E) = ½ E · M E + Σ_j v_j g(√(d_j² + |A_j E|²)), g(m) = m − ln(1 + m): convex and even, always.

    g is that of the softening law (`Deviatoric`), whose second parameter A_j takes in; with d = 0 a term is
    such a law. In a cell, strain gathers where the matrix has softened, so that stiffness is lost more
    abruptly than in any sum of such laws with v ≥ 0: an offset d gives terms that stay nearly linear up to
    |A E| = d and bend then. √(d² + |A E|²) is convex and g convex and rising, so W is convex whatever the
    parameters, its tangent symmetric and never indefinite.

    Args:
        box: (2, n) trained strains.
        quadratic: M, (n, n), positive semi-definite.
        units: A, (terms, n, n).
        scale: v, (terms,), not negative.
        offset: d, (terms,), positive.
        error, reduction, least: see `MacroPotential`.
    """

    kept: ClassVar[tuple[str, ...]] = ("quadratic", "units", "scale", "offset")
    quadratic: Tensor
    units: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        box: Tensor,
        quadratic: Tensor,
        units: Tensor,
        scale: Tensor,
        offset: Tensor,
        error: float,
        reduction: float,
        least: float,
    ) -> None:
        super().__init__(box, error, reduction, least)
        n = self.strain_size
        i, j = torch.triu_indices(n, n)
        squares = units.mT @ units
        values = {"quadratic": quadratic, "units": units, "scale": scale, "offset": offset}
        for name, value in values.items():
            self.register_buffer(name, value)
        self.register_buffer("_rows", squares.reshape(-1, n).contiguous(), persistent=False)
        self.register_buffer("_entries", squares[:, i, j].T.contiguous(), persistent=False)
        self.register_buffer("_constant", quadratic[i, j, None].clone(), persistent=False)
        self._pairs = list(zip(i.tolist(), j.tolist(), strict=True))

    @classmethod
    def fitted(
        cls, found: SobolevLabels, box: Tensor, seed: int, units: int = 32, iterations: int | None = None
    ) -> ConvexPotential:
        """Fit a potential to labels, see `fit_terms`.

        Args:
            found: labels.
            box: (2, n) trained strains.
            seed: of the candidates.
            units: largest number of terms.
            iterations: of Levenberg and Marquardt's method; None: 150 in plane strain, 40 in space, where
                each takes seconds.

        Raises:
            SponError: no term.
        """
        if units < 1:
            raise SponError(f"a potential of {units} terms; allowed: 1 or more")
        steps = _ITERATIONS[found.size] if iterations is None else iterations
        terms, factor = fit_terms(found, units, steps, seed)
        reach, energy = found.reach, found.energy
        factor = factor / reach
        size = terms.size
        return cls(
            box,
            energy * factor.T @ factor,
            terms.factors / size[:, None, None] / reach,
            energy * size**2,
            terms.offset,
            1.0,
            1.0,
            1.0,
        )

    def derivatives(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient (n, batch) and upper triangle of the Hessian at E (n, batch)."""
        force = (self._rows @ strain).reshape(len(self.scale), len(strain), -1)
        size = (strain * force).sum(1).clamp_min_(0).add_(self.offset[:, None] ** 2).sqrt_()
        secant = 1 / (1 + size)
        weight = self.scale[:, None] * secant
        hessian = torch.addmm(self._constant, self._entries, weight)
        n = len(strain)
        gradient = (hessian[places(n).to(strain.device)].reshape(n, n, -1) * strain).sum(1)
        change = (weight * secant / size)[:, None] * force
        for k, (a, b) in enumerate(self._pairs):
            hessian[k] -= (change[:, a] * force[:, b]).sum(0)
        return gradient, hessian
