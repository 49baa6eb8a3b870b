"""Nonlinear multigrid cycles on a finite-element hierarchy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.level import Level, restriction
from spon.nn.processors.base import Encoded, Known, Processor, feature_count, with_constant
from spon.nn.processors.cycle import Cycle, Grids
from spon.nn.processors.edge_messages import Edges
from spon.nn.processors.guess import CycleGuess
from spon.nn.processors.level_operators import LARGEST_DENSE, CoarseInverse, LevelOperators
from spon.nn.sparse import SparseMap
from spon.nn.stiffness import LevelStiffness, QuadratureCoefficient, level_gradients
from spon.physics.kernels.physics import Physics

__all__ = ["GUESSES", "Multigrid"]

GUESSES = ("none", "feature", "start")


class Multigrid(Processor):
    """V- or W-cycles with learned smoothers that know the sample's own operator.

    After the multigrid variant of SPON (Bouziani & Boullé 2024) and MgNO (He, Liu & Xu 2023, arXiv
    2310.19809), on unstructured finite-element levels. A residual block on a level is
    x ← x + W φ(Σ_k T_k x θ_k + b) with sparse T_k and learned channel matrices θ_k, W: the identity, the
    recovered gradient h ∂/∂x_d, and the Jacobi-scaled stiffness D⁻¹K(κ) with the sample's coefficient κ
    (κ = 1 without one), on coarser levels its Galerkin projection PᵀK(κ)P.
    The coarsest level, if it has at most 1024 nodes, adds the inverse of its own K(κ), so that
    information crosses the whole domain in one step.

    Args:
        discretisation: hierarchy of levels.
        features: of the input; default: those of an `OperatorNetwork` on this discretisation.
        widths: channels on each level, finest first; the last one is repeated for further levels.
        cycles: how many, one after the other.
        gamma: visits of each coarser level but the coarsest in a cycle: 1 a V-cycle, 2 a W-cycle.
        coefficient: whether the first input is the coefficient κ > 0 of the level operators. None: if it is
            a scalar field that reproduces constants, and positive in all training samples. A value for
            each cell is used as it is.
        messages: add messages along the edges of the levels to the T_k; several times slower.
        guess: for equations with a kernel, which `use` gives: "none"; "feature": u0 from multigrid cycles
            with the sample's own operator and its residual (`CycleGuess`) are further features; "start":
            the network learns u − u0 besides.
        guess_cycles: multigrid cycles that make u0.
        dtype: of parameters and arithmetic, `torch.float32` or `torch.float64`, or its name.
        seed: of the initial parameters.
        first: level, from 0, on which the cycles begin; on finer ones the result is interpolated.

    Raises:
        SponError: settings that are not allowed, a vector as coefficient.
    """

    uses_coefficient: Tensor

    def __init__(
        self,
        discretisation: Discretisation,
        features: int | None = None,
        widths: Sequence[int] = (12, 32, 64),
        cycles: int = 2,
        gamma: int = 1,
        coefficient: bool | None = None,
        messages: bool = False,
        guess: str = "none",
        guess_cycles: int = 1,
        dtype: torch.dtype | str = torch.float32,
        seed: int = 0,
        first: int = 0,
    ) -> None:
        super().__init__()
        d = discretisation
        name = str(dtype).removeprefix("torch.")
        _check(name, widths, cycles, gamma, guess, guess_cycles)
        dtype = getattr(torch, name)
        features = feature_count(d) if features is None else features
        self.settings = {
            "features": features,
            "widths": [int(w) for w in widths],
            "cycles": cycles,
            "gamma": gamma,
            "coefficient": coefficient,
            "messages": messages,
            "guess": guess,
            "guess_cycles": guess_cycles,
            "dtype": name,
            "first": first,
        }
        if coefficient and d.input.components != 1:
            raise SponError(
                f"the first input has {d.input.components} components; allowed: 1 as a "
                "coefficient, any number with coefficient=False"
            )
        possible = bool(coefficient) or (coefficient is None and _is_scalar_field(d))
        self.register_buffer("uses_coefficient", torch.tensor(possible))
        levels, last = d.levels, len(d.levels) - 1
        if not 0 <= first <= last:
            raise SponError(f"first = {first}; allowed: 0 to {last}, a level")
        self.mesh_size = _mesh_size(levels[first])
        channels = [int(widths[min(k, len(widths) - 1)]) for k in range(last + 1 - first)]
        self.quadrature = QuadratureCoefficient(d, dtype)
        self.stiffness = nn.ModuleList(
            LevelStiffness(g, d.levels[0].gdim, dtype) for g in level_gradients(levels)
        )
        patterns: list[Any] = [stiffness.pattern for stiffness in self.stiffness]
        dense = len(levels[last].points) <= LARGEST_DENSE
        inverse = CoarseInverse(levels[last], patterns[last], dtype) if dense else None
        own = levels[first:]
        operators = [
            LevelOperators(level, inverse if level is levels[last] else None, dtype) for level in own
        ]
        edges = (
            [Edges(level, p, dtype) for level, p in zip(own, patterns[first:], strict=True)]
            if messages
            else []
        )
        prolong = [SparseMap(level.prolongation, dtype) for level in levels[:-1]]
        restrict = [SparseMap(restriction(fine, coarse), dtype) for fine, coarse in pairwise(levels)]
        self.first = first
        self.above = Grids([], [], prolong[:first], restrict[:first])
        self.grids = Grids(operators, edges, prolong[first:], restrict[first:])
        self.discretisation = d
        self.guess: CycleGuess | None = None  # `use` makes it
        self.known_features = 0 if guess == "none" else 2 * d.output.components
        counts = [operator.count for operator in operators]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.lift = nn.Linear(features + self.known_features, channels[0], dtype=dtype)
            self.cycles = nn.ModuleList(
                Cycle(channels, counts, gamma, d.levels[0].gdim if messages else None, dtype)
                for _ in range(cycles)
            )
            self.read = nn.Linear(channels[0], d.cutoff.shape[1], dtype=dtype)
        nn.init.zeros_(self.read.weight)  # start from the mean of the training outputs
        nn.init.zeros_(self.read.bias)

    def inspect(self, raw: Tensor) -> None:
        """Decide whether the first input is a coefficient, where `coefficient` leaves it open."""
        if self.settings["coefficient"] is None and bool(self.uses_coefficient):
            first = raw[:, : self.quadrature.dofs]
            self.uses_coefficient.fill_(bool((first > 0).all()))

    def use(self, physics: Physics | None) -> None:
        """Take the equations, if `guess` needs them.

        Raises:
            SponError: no equations, or such as have no multigrid cycles; see `CycleGuess`.
        """
        if self.settings["guess"] == "none":
            return
        guess = CycleGuess(self.discretisation, physics, self.settings["guess_cycles"])
        self.guess, self.physics = guess.to(self.lift.weight.device), physics

    def known(self, encoded: Encoded) -> Known:
        """Return u0 and its residual as features, and u0 as start where `guess` is "start".

        Raises:
            SponError: no equations were given, where `guess` needs them.
        """
        if self.settings["guess"] == "none":
            return Known()
        if self.guess is None:
            raise SponError(
                f"guess '{self.settings['guess']}' needs the equations on its mesh; allowed: a data set with "
                "equations; in Python `use(data.physics)`, on another mesh `on(discretisation, physics)`"
            )
        u, features = self.guess(encoded)
        return Known(features, u if self.settings["guess"] == "start" else None)

    def on(self, discretisation: Discretisation) -> Multigrid:
        """Return the processor on another mesh, with the same parameters.

        It works on as many consecutive levels as it has here: those whose mesh sizes are nearest to the ones
        that it has here, since learned smoothers belong to a mesh size; finer levels only interpolate. With
        a guess, which knows the fine scales, on the finest ones; it wants the equations there (`use`).

        Raises:
            SponError: fewer levels, or spaces of another kind.
        """
        levels, count = discretisation.levels, len(self.grids.operators)
        if len(levels) < count:
            raise SponError(f"{len(levels)} levels; allowed: {count} or more, as in the training")
        first = 0
        if self.settings["guess"] == "none":
            sizes = np.array([_mesh_size(level) for level in levels[: len(levels) - count + 1]])
            first = int(np.argmin(np.abs(np.log(sizes / self.mesh_size))))
        settings = {**self.settings, "coefficient": bool(self.uses_coefficient), "first": first}
        other = Multigrid(replace(discretisation, levels=levels[: first + count]), **settings)
        wanted = other.lift.weight.shape, other.read.weight.shape, other.grids.counts
        if wanted != (self.lift.weight.shape, self.read.weight.shape, self.grids.counts):
            raise SponError(
                "spaces or levels of another kind; allowed: as many inputs, components and dimensions, and "
                f"the coarsest of {count} levels with more than {LARGEST_DENSE} nodes as here, or not"
            )
        other.settings["coefficient"] = self.settings["coefficient"]
        other.discretisation = discretisation  # the guess may use all levels
        other.lift, other.cycles, other.read = self.lift, self.cycles, self.read
        return other

    def _stiffness(self, encoded: Encoded) -> list[Any]:
        weights = self.quadrature(encoded if bool(self.uses_coefficient) else None)
        return [assemble(weights) for assemble in self.stiffness]

    def _factor(self, stiffness: list[Any]) -> Tensor | None:
        inverse = self.grids.operators[-1].inverse
        return None if inverse is None else inverse.factorise(stiffness[-1].values)

    def forward(self, encoded: Encoded) -> Tensor:
        """Map nodal features to latent fields, (nodes, batch, latent components)."""
        return self._prolonged(self.read(self._hidden(encoded)))

    def last_features(self, encoded: Encoded) -> Tensor:
        """Return the channels on the finest level and the constant, (nodes, batch, features)."""
        return self._prolonged(with_constant(self._hidden(encoded)))

    def _hidden(self, encoded: Encoded) -> Tensor:
        """Return the channels on the level `first`, (nodes, batch, channels)."""
        stiffness = self._stiffness(encoded)
        factor = self._factor(stiffness)
        x = encoded.features
        for restrict in self.above.restrict:
            x = restrict(x)
        x = self.lift(x)
        for cycle in self.cycles:
            x = cycle(x, self.grids, stiffness[self.first :], factor)
        return x

    def _prolonged(self, x: Tensor) -> Tensor:
        for prolong in reversed(self.above.prolong):
            x = prolong(x)
        return x


def _check(dtype: str, widths: Sequence[int], cycles: int, gamma: int, guess: str, guess_cycles: int) -> None:
    if dtype not in ("float32", "float64"):
        raise SponError(f"dtype {dtype}; allowed: float32, float64")
    if not widths or min(widths) < 1 or cycles < 1:
        raise SponError(f"widths = {tuple(widths)}, cycles = {cycles}; allowed: widths >= 1, cycles >= 1")
    if gamma not in (1, 2):
        raise SponError(f"gamma = {gamma}; allowed: 1 (V-cycle), 2 (W-cycle)")
    if guess not in GUESSES or guess_cycles < 1:
        raise SponError(
            f"guess '{guess}' by {guess_cycles} cycles; allowed: {', '.join(GUESSES)}, and one cycle or more"
        )


def _mesh_size(level: Level) -> float:
    """Mean distance of nodes."""
    return float((level.lumped_mass.sum() / len(level.points)) ** (1.0 / level.gdim))


def _is_scalar_field(discretisation: Discretisation) -> bool:
    """Whether the first input is a scalar field on the whole mesh: ones make the nodal values 1."""
    space = discretisation.input
    return space.components == 1 and bool(np.allclose(space.features.sum(axis=1), 1.0))
