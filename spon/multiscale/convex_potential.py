"""The macroscopic potential alone: stress and tangent are its derivatives, local fields there are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from spon.multiscale.fitting import labels, minimise_loss
from spon.multiscale.micromodel import Response
from spon.multiscale.potential import places
from spon.multiscale.reduced import ReducedRVE, reduce_rve
from spon.multiscale.snapshots import Snapshots
from spon.multiscale.surrogate import Surrogate

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["ConvexPotential", "learn_potential"]

_COVERED = 0.95
_SPREAD = 10.0  # strains at which units bend, against the mean strain: from 1/10 to 10 times


class ConvexPotential(Surrogate):
    """W(E) = ½ E · M E + Σ_j v_j g(|A_j E|), g(n) = n − ln(1 + n): convex and even whatever the parameters.

    g is that of the softening law (`Deviatoric`), whose second parameter A_j takes in. Stress and tangent
    are the derivatives in closed form, so the tangent is symmetric and never indefinite. The indicator is one
    number for all strains in the trained box: nothing is known of the cell where the potential is asked.

    Args:
        box: (2, n) trained strains.
        quadratic: M, (n, n), positive semi-definite.
        units: A, (units, n, n).
        scale: v, (units,), not negative.
        error: relative, of the stress, not exceeded by 95 % of the strains tried.
    """

    settings: ClassVar[tuple[str, ...]] = ("rank", "energy", "points", "seed")
    quadratic: Tensor
    units: Tensor
    scale: Tensor

    def __init__(self, box: Tensor, quadratic: Tensor, units: Tensor, scale: Tensor, error: float) -> None:
        super().__init__(box)
        self.error = error
        for name, value in (("quadratic", quadratic), ("units", units), ("scale", scale)):
            self.register_buffer(name, value)

    @classmethod
    def fit(
        cls,
        rve: RVE,
        snapshots: Snapshots,
        held_back: Snapshots | None = None,
        units: int = 24,
        **settings: Any,
    ) -> ConvexPotential:
        """Reduce a cell and learn its potential.

        Args:
            rve: cell.
            snapshots: load cases to learn from.
            held_back: load cases to calibrate the indicator of the reduced cell on.
            units: see `learn_potential`.
            settings: of `reduce_rve`.

        Raises:
            SponError: see `reduce_rve`, `learn_potential`.
        """
        return learn_potential(reduce_rve(rve, snapshots, held_back=held_back, **settings), units)

    def respond_within(self, strain: Tensor) -> Response:
        """Return the response to strains (batch, n)."""
        gradient, hessian = derivatives(strain.T, self.units, self.scale)
        i, j = torch.triu_indices(self.strain_size, self.strain_size, device=strain.device)
        hessian = hessian + self.quadratic[i, j, None]
        tangent = hessian[places(self.strain_size).to(strain.device)].T
        stress = (gradient + self.quadratic @ strain.T).T
        indicator = torch.full_like(strain[:, 0], self.error)
        failed = ~torch.isfinite(stress).all(1)
        return Response(stress, tangent.reshape(*strain.shape, -1), indicator, failed)

    def content(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        names = ("box", "quadratic", "units", "scale")
        return {name: getattr(self, name).cpu() for name in names} | {"error": self.error}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> ConvexPotential:
        """Make what `content` described."""
        return cls(**{name: content[name] for name in ("box", "quadratic", "units", "scale", "error")})


def derivatives(strain: Tensor, units: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradient (n, batch) and upper triangle of the Hessian of Σ v_j g(|A_j E|) at E (n, batch)."""
    n = len(strain)
    i, j = torch.triu_indices(n, n, device=strain.device)
    B = (units[:, :, :, None] * units[:, :, None, :]).sum(1)
    force = (B.reshape(-1, n) @ strain).reshape(len(scale), n, -1)
    norm = (strain * force).sum(1).clamp_min(1e-300).sqrt()
    secant = 1 / (1 + norm)
    weight = scale[:, None] * secant
    gradient = (weight[:, None] * force).sum(0)
    change = (weight * secant / norm)[:, None] * force
    hessian = [B[:, a, b] @ weight - (change[:, a] * force[:, b]).sum(0) for a, b in zip(i, j, strict=True)]
    return gradient, torch.stack(hessian)


class _Units(nn.Module):
    """The parameters while they are learned: A and ln v, without dimensions; M follows from them.

    M enters linearly, so for given units it is the solution of a small least-squares problem (variable
    projection, Golub & Pereyra 1973); eigenvalues of it below zero are penalised.
    """

    def __init__(self, x: Tensor, gradient: Tensor, hessian: Tensor, units: int) -> None:
        super().__init__()
        n = len(x)
        self.i, self.j = torch.triu_indices(n, n)
        self.x, self.weights = x, self._weights(gradient, hessian)
        self.target = self._flat(gradient, hessian)
        basis = torch.zeros(len(self.i), n, n, dtype=x.dtype)
        basis[torch.arange(len(self.i)), self.i, self.j] = 1
        basis[torch.arange(len(self.i)), self.j, self.i] = 1
        columns = [self._flat(one @ x, one[self.i, self.j, None].expand_as(hessian)) for one in basis]
        self.Q, self.R = torch.linalg.qr(torch.stack(columns, 1))
        mean = hessian.mean(1)[places(n)].reshape(n, n)
        change = hessian[:, x.norm(dim=0).argmin()][places(n)].reshape(n, n) - mean
        values, vectors = torch.linalg.eigh(change)
        sizes = values.abs().clamp_min(1e-3 * values.abs().max().clamp_min(1e-12)).sqrt()
        bent = sizes[:, None] * vectors.T
        reach = (bent @ x).norm(dim=0).mean() * torch.logspace(-1, 1, units, base=_SPREAD, dtype=x.dtype)
        A = bent / reach[:, None, None]
        noise = torch.randn(units, n, n, dtype=x.dtype) * A.norm(dim=(1, 2), keepdim=True) / n
        self.A = nn.Parameter((A + noise).contiguous())
        self.log_v = nn.Parameter((2 * reach**2 / units).log())

    def _weights(self, gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
        diagonal = hessian[self.i == self.j].square().mean(1).sqrt()
        return 1 / gradient.square().mean(1).sqrt(), 1 / (diagonal[self.i] * diagonal[self.j]).sqrt()

    def _flat(self, gradient: Tensor, hessian: Tensor) -> Tensor:
        scaled = [
            (w[:, None] * v).reshape(-1) for w, v in zip(self.weights, (gradient, hessian), strict=True)
        ]
        return torch.cat(scaled) / gradient.shape[1] ** 0.5

    def rest(self) -> Tensor:
        """Return what the units leave of the labels."""
        return self.target - self._flat(*derivatives(self.x, self.A, self.log_v.exp()))

    def quadratic(self, rest: Tensor) -> Tensor:
        """Return M."""
        entries = torch.linalg.solve_triangular(self.R, (self.Q.T @ rest)[:, None], upper=True)[:, 0]
        return entries[places(len(self.x))].reshape(len(self.x), -1)

    def loss(self) -> Tensor:
        """Return the mean square error of gradient and Hessian, relative, with the penalty."""
        rest = self.rest()
        below = torch.linalg.eigvalsh(self.quadratic(rest)).clamp_max(0)
        return rest @ rest - (self.Q.T @ rest).square().sum() + below.square().sum()


def learn_potential(
    reduced: ReducedRVE, units: int = 24, samples: int = 1000, iterations: int = 1000, seed: int = 0
) -> ConvexPotential:
    """Fit a potential to stresses and tangents that the reduced cell finds, by L-BFGS.

    The response has to be odd in the strain, as that of all laws of spon is.

    Args:
        reduced: cell.
        units: number of terms.
        samples: strains of a Latin hypercube in the trained box.
        iterations: of L-BFGS.
        seed: of strains and first units.

    Raises:
        SponError: no sample, or the reduced cell finds no equilibrium.
    """
    strain, found = labels(reduced, samples, seed)
    strain, stress, tangent = strain.cpu(), found.stress.cpu(), found.tangent.cpu()
    reach, energy = reduced.box.abs().amax(0).cpu(), (stress * strain).sum(1).mean()
    n = reduced.strain_size
    i, j = torch.triu_indices(n, n)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hessian = tangent[:, i, j] * reach[i] * reach[j] / energy
        model = _Units((strain / reach).T, (stress * reach / energy).T, hessian.T, units)
    minimise_loss(model, model.loss, iterations)
    with torch.no_grad():
        values, vectors = torch.linalg.eigh(model.quadratic(model.rest()))
        M = (vectors * values.clamp_min(0)) @ vectors.T * energy / torch.outer(reach, reach)
        M, A, v = 0.5 * (M + M.T), model.A / reach, model.log_v.exp() * energy
    potential = ConvexPotential(reduced.box.cpu(), M, A.detach().contiguous(), v, 0.0).to(strain.device)
    fresh, exact = labels(reduced, max(samples // 4, 1), seed + 1)
    answer = potential.respond(fresh.cpu()).stress.to(fresh.device)
    error = (answer - exact.stress).norm(dim=1) / exact.stress.norm(dim=1)
    both = error + ReducedRVE.respond_within(reduced, fresh).indicator
    potential.error = float(both.quantile(_COVERED))
    return potential.to(reduced.box.device)
