"""The reduced cell without its iteration: a network predicts the amplitudes, one Hessian corrects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spon.errors import SponError
from spon.multiscale.fitting import joined, labels, minimise_loss, normalised
from spon.multiscale.newton import Minimum, condense
from spon.multiscale.reduced import ReducedRVE, features, reduce_rve
from spon.multiscale.snapshots import Snapshots

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["NeuralGalerkin", "learn_amplitudes"]

_WIDTHS = (64, 64, 64)


class NeuralGalerkin(ReducedRVE):
    """A `ReducedRVE` whose amplitudes a(E) come from a network instead of a minimisation.

    EquiNO (Eivazi et al. 2025, arXiv 2504.07976) with its equations put back: at the network's amplitudes one
    reduced Hessian H and gradient g of the potential give the stress g_E − H_Ea H_aa⁻¹ g_a, whose error is
    of second order in that of the amplitudes, and the symmetric tangent H_EE − H_Ea H_aa⁻¹ H_aE. Local
    fields and indicator are those of the amplitudes after that one step of Newton's method; so what the
    network still misses is in the residual that the indicator is made of.

    Args:
        reduced: cell whose amplitudes were learned.
        network: normalised strains (batch, n) → what a linear guess leaves of the amplitudes, (batch, r).
        newton_steps: steps of Newton's method before the Hessian that answers: 0, 1, 2.

    Raises:
        SponError: another number of steps.
    """

    def __init__(self, reduced: ReducedRVE, network: nn.Module, newton_steps: int = 0) -> None:
        if newton_steps not in (0, 1, 2):
            raise SponError(f"newton_steps = {newton_steps}; allowed: 0, 1, 2")
        super().__init__(
            reduced.fields,
            reduced.rank,
            reduced.cubature,
            reduced.control,
            reduced.guess,
            reduced.box,
            reduced.factor,
            calibrated=reduced.calibrated,
        )
        self.network, self.newton_steps = network, newton_steps

    @classmethod
    def fit(
        cls,
        rve: RVE,
        snapshots: Snapshots,
        held_back: Snapshots | None = None,
        newton_steps: int = 0,
        **settings: Any,
    ) -> NeuralGalerkin:
        """Reduce a cell and learn its amplitudes.

        Args:
            rve: cell.
            snapshots: load cases to learn from.
            held_back: load cases to calibrate the indicator on.
            newton_steps: see the class.
            settings: of `reduce_rve`.

        Raises:
            SponError: see `reduce_rve`, `learn_amplitudes`.
        """
        learned = learn_amplitudes(reduce_rve(rve, snapshots, **settings), newton_steps)
        if held_back is not None:
            learned.calibrate(held_back)
        return learned

    def amplitudes(self, strain: Tensor) -> Tensor:
        """Return the guess, (batch, r), at strains (batch, n): zero without strain."""
        return features(strain) @ self.guess + from_rest(self.network, strain, self.box)

    def minimum(self, strain: Tensor) -> Minimum:
        """Return amplitudes and response at strains (batch, n).

        Converged is where H_aa was positive definite. Strains outside the trained box, where the network
        knows nothing, are minimised in full.
        """
        outside = self.outside(strain)
        if outside.all():
            return super().minimum(strain)
        if outside.any():
            found = [self._corrected(strain[~outside]), super().minimum(strain[outside])]
            order = torch.cat([(~outside).nonzero(), outside.nonzero()])[:, 0].argsort()
            return joined(found, order)
        return self._corrected(strain)

    def _corrected(self, strain: Tensor) -> Minimum:
        n = self.strain_size
        y = torch.cat([strain, self.amplitudes(strain)], 1)
        found = condense(*self.potential.derivatives(y), n)
        for _ in range(self.newton_steps):
            y[:, n:] += found.step
            found = condense(*self.potential.derivatives(y), n)
        return Minimum(
            y[:, n:] + found.step,
            found.stress,
            found.tangent,
            found.sensitivity,
            torch.full(strain.shape[:1], self.newton_steps + 1, device=strain.device),
            found.valid,
        )

    def content(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        network = {name: value.cpu() for name, value in self.network.state_dict().items()}
        return super().content() | {"network": network, "newton_steps": self.newton_steps}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> NeuralGalerkin:
        """Make what `content` described."""
        reduced = ReducedRVE.from_content(content)
        widths = [len(value) for name, value in content["network"].items() if name.endswith("bias")]
        network = make_network(reduced.strain_size, reduced.rank, widths[:-1])
        network.load_state_dict(content["network"])
        return cls(reduced, network, content["newton_steps"])


def learn_amplitudes(
    reduced: ReducedRVE, newton_steps: int = 0, samples: int = 2000, iterations: int = 1000, seed: int = 0
) -> NeuralGalerkin:
    """Train a network on amplitudes that the reduced cell finds; no finite-element solution is needed.

    The loss is the squared error of the amplitudes, by the modes' norm its energy, relative to the squared
    strain: a cell that is hardly strained counts as much as others. L-BFGS.

    Args:
        reduced: cell.
        newton_steps: see `NeuralGalerkin`.
        samples: strains of a Latin hypercube in the trained box.
        iterations: of L-BFGS.
        seed: of strains and network.

    Raises:
        SponError: no sample, or the reduced cell finds no equilibrium.
    """
    strain, found = labels(reduced, samples, seed, small=True)
    rest = found.amplitudes - features(strain) @ reduced.guess
    scale = rest.square().mean().sqrt().clamp_min(torch.finfo(rest.dtype).tiny)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(reduced.strain_size, reduced.rank).to(strain.device)
    weight = 1 / strain.norm(dim=1, keepdim=True).clamp_min(1e-3 * reduced.box.abs().max())
    weight /= weight.mean()
    target = rest / scale

    def loss() -> Tensor:
        return (weight * (from_rest(network, strain, reduced.box) - target)).square().mean()

    minimise_loss(network, loss, iterations)
    with torch.no_grad():
        for parameter in network[-1].parameters():
            parameter *= scale
    return NeuralGalerkin(reduced, network.requires_grad_(False), newton_steps)


def from_rest(network: nn.Module, strain: Tensor, box: Tensor) -> Tensor:
    """Return what a network gives at strains (batch, n), less what it gives without strain, (batch, r).

    So a cell at rest is in equilibrium, and relative errors stay bounded at small strains.
    """
    x = normalised(torch.cat([strain, strain.new_zeros(1, strain.shape[1])]), box)
    values: Tensor = network(x)
    return values[:-1] - values[-1:]


def make_network(strain_size: int, rank: int, widths: Sequence[int] = _WIDTHS) -> nn.Sequential:
    """Return a multilayer perceptron, float64, of normalised strains (batch, n) to (batch, r)."""
    sizes = (strain_size, *widths, rank)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after, dtype=torch.float64), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
