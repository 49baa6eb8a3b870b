"""What surrogates that learn from the reduced cell have in common: labels, scaling, L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn

from spon.errors import SponError
from spon.multiscale.loads import latin_hypercube
from spon.multiscale.newton import Minimum
from spon.multiscale.reduced import ReducedRVE

__all__ = ["joined", "labels", "minimise_loss", "normalised"]

_AT_ONCE = 500


def normalised(strain: Tensor, box: Tensor) -> Tensor:
    """Return strains (batch, n) scaled so that the box (2, n) is [−1, 1]ⁿ."""
    return (2 * strain - box[0] - box[1]) / (box[1] - box[0])


@torch.no_grad()
def labels(reduced: ReducedRVE, samples: int, seed: int, small: bool = False) -> tuple[Tensor, Minimum]:
    """Return strains of a Latin hypercube in the trained box, (samples, n), and the equilibria there.

    Args:
        reduced: cell.
        samples: number.
        seed: of the hypercube.
        small: every other strain shrinks, by 1 to 0.

    Raises:
        SponError: no sample asked for, or one without equilibrium.
    """
    unit = torch.as_tensor(latin_hypercube(samples, reduced.strain_size, 0.5, seed)) + 0.5
    low, high = reduced.box
    strain = low + (high - low) * unit.to(low.device)
    if small:
        strain[1::2] *= torch.linspace(1, 0, len(strain[1::2]) + 1, dtype=strain.dtype)[:-1, None].to(strain)
    parts = [ReducedRVE.minimum(reduced, part) for part in strain.split(_AT_ONCE)]
    found = joined(parts, torch.arange(samples, device=low.device))
    if not found.converged.all():
        first = strain[~found.converged][0].tolist()
        raise SponError(f"the reduced cell has no equilibrium at the strain {first}; allowed: smaller ones")
    return strain, found


def joined(parts: Sequence[Minimum], order: Tensor) -> Minimum:
    """Return the answers of all parts, the samples in the order given, (batch,)."""
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Minimum)]
    return Minimum(*(torch.cat(column)[order] for column in columns))


def minimise_loss(module: nn.Module, loss: Callable[[], Tensor], iterations: int) -> None:
    """Minimise a loss over the parameters of a module by L-BFGS with a strong Wolfe line search."""
    optimiser = torch.optim.LBFGS(
        module.parameters(),
        max_iter=iterations,
        history_size=50,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
