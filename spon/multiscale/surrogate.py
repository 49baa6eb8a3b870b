"""What all surrogates of a cell have in common: one call, a trained range, a file."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from spon.errors import SponError
from spon.files import replacing
from spon.multiscale.micromodel import Response
from spon.multiscale.voigt import DIMENSIONS, require_strain

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE
    from spon.multiscale.snapshots import Snapshots

__all__ = ["SURROGATES", "Surrogate", "load_surrogate", "surrogate_class", "trained_box"]

FORMAT = 1
SURROGATES = {  # class → module
    "ReducedRVE": "spon.multiscale.reduced",
    "NeuralGalerkin": "spon.multiscale.neural_galerkin",
    "ConvexPotential": "spon.multiscale.convex_potential",
    "PolynomialPotential": "spon.multiscale.polynomial_potential",
    "MLPPotential": "spon.multiscale.mlp_potential",
    "EquiNO": "spon.multiscale.equino",
    "VariationalDeepONet": "spon.multiscale.vpionet",
}


class Surrogate(nn.Module, ABC):
    """A quick stand-in for the finite-element solution of a cell; a `MicroModel`.

    Its parameters and buffers are float64; `.to(device)` moves it, and answers are on its device. Strains
    that leave the trained box are answered all the same, with the indicator infinite, so that a
    fallback takes them over.

    Args:
        box: (2, n) smallest and largest strains that it was trained for.
        batch: strains that are answered at once; more are split.

    Raises:
        SponError: a box that is empty or of another shape.
    """

    uniform: ClassVar[bool] = True
    batch: ClassVar[int] = 200
    settings: ClassVar[tuple[str, ...]] = ()  # of `fit`, that the command line serves
    box: Tensor

    def __init__(self, box: Tensor) -> None:
        super().__init__()
        if (
            box.dim() != 2
            or box.shape[0] != 2
            or box.shape[1] not in DIMENSIONS
            or not (box[0] < box[1]).all()
        ):
            raise SponError(f"a trained box {box.tolist()}; allowed: two strains, the first one smaller")
        self.strain_size = box.shape[1]
        self.register_buffer("box", box.to(torch.float64))

    @abstractmethod
    def respond_within(self, strain: Tensor) -> Response:
        """Return the response to at most `batch` strains on the right device, as if all were in the box."""

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """Return plain values and tensors that `from_content` makes the surrogate of.

        Raises:
            SponError: a law that is not one of spon's own.
        """

    @classmethod
    @abstractmethod
    def from_content(cls, content: Mapping[str, Any]) -> Surrogate:
        """Make what `content` described."""

    @classmethod
    def fit(
        cls, rve: RVE, snapshots: Snapshots, held_back: Snapshots | None = None, **settings: Any
    ) -> Surrogate:
        """Make the surrogate of solved load cases.

        Args:
            rve: cell.
            snapshots: load cases to learn from.
            held_back: load cases to calibrate the indicator on; None: it stays without calibration.
            settings: of the class.

        Raises:
            SponError: see the class.
        """
        raise SponError(f"{cls.__name__} is not made of snapshots")

    def local(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return strains and stresses at the points of the cell, (batch, points, n) each.

        Args:
            strain: (batch, n) macroscopic strains, float64.

        Raises:
            SponError: the surrogate knows macroscopic values alone; or there is no answer to a strain.
        """
        raise SponError(
            f"{type(self).__name__} has no local fields; allowed: ReducedRVE, EquiNO, VariationalDeepONet"
        )

    @torch.no_grad()
    def respond(self, strain: Tensor, where: Tensor | None = None) -> Response:
        """Return stress and tangent; the same for a strain whatever was asked before.

        Args:
            strain: (batch, n) macroscopic strains, float64, on any device.
            where: not used.

        Returns:
            With the indicator infinite outside the trained box and where there is no answer, nan where the
            surrogate estimates nothing.

        Raises:
            SponError: a strain of another length or type.
        """
        strain = self.on_device(strain)
        if not len(strain):
            none = torch.zeros_like(strain[:, 0])
            return Response(strain, strain[:, :, None] * strain[:, None], none, none.bool())
        parts = [self.respond_within(part) for part in strain.split(self.batch)]
        failed = torch.cat([part.failed for part in parts])
        unknown = torch.full_like(strain[:, 0], torch.nan)
        indicator = torch.cat([p.indicator for p in parts if p.indicator is not None] or [unknown])
        return Response(
            torch.cat([part.stress for part in parts]),
            torch.cat([part.tangent for part in parts]),
            indicator.masked_fill(failed | self.outside(strain), torch.inf),
            failed,
        )

    def outside(self, strain: Tensor) -> Tensor:
        """Return whether strains (batch, n) leave the trained box, (batch,)."""
        strain = self.on_device(strain)
        return ~((strain >= self.box[0]) & (strain <= self.box[1])).all(1)  # also where it is nan

    def on_device(self, strain: Tensor) -> Tensor:
        """Return strains where the surrogate is.

        Raises:
            SponError: another shape or type.
        """
        require_strain(strain, self.strain_size)
        if strain.dim() != 2:
            raise SponError(f"strains {tuple(strain.shape)}; allowed: (batch, {self.strain_size})")
        return strain.to(self.box.device)

    def save(self, path: str | Path) -> None:
        """Write a file that `load_surrogate` reads without any other, and without DOLFINx.

        Raises:
            SponError: a law that is not one of spon's own; the path cannot be written.
        """
        whole = {"format": FORMAT, "surrogate": type(self).__name__, "content": self.content()}
        with replacing(path) as temporary:
            torch.save(whole, temporary)


def load_surrogate(path: str | Path, device: str | torch.device = "cpu") -> Surrogate:
    """Load a surrogate. Runs no code from the file.

    Args:
        path: what `Surrogate.save` wrote.
        device: where the surrogate goes.

    Raises:
        SponError: no such file, not a surrogate, another format, or parts missing.
    """
    if not Path(path).is_file():
        raise SponError(f"no such surrogate: {path}")
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)
        found, name, content = whole["format"], whole["surrogate"], whole["content"]
    except Exception as error:  # torch raises many kinds, with advice that does not apply
        raise SponError(f"{path}: not a readable surrogate; allowed: what spon rve train writes") from error
    if found != FORMAT:
        raise SponError(f"{path}: surrogate format {found}; allowed: {FORMAT}")
    try:
        kind = surrogate_class(name)
    except SponError as error:
        raise SponError(f"{path}: {error}") from error
    try:
        surrogate = kind.from_content(content)
    except KeyError as error:
        raise SponError(f"{path}: no {error} in the surrogate '{name}'") from error
    return surrogate.to(device)


def surrogate_class(name: str) -> type[Surrogate]:
    """Return a class of `SURROGATES` by its name.

    Raises:
        SponError: there is none of that name.
    """
    if name not in SURROGATES:
        raise SponError(f"a surrogate '{name}'; allowed: {', '.join(SURROGATES)}")
    kind: type[Surrogate] = getattr(importlib.import_module(SURROGATES[name]), name)
    return kind


def trained_box(strains: Tensor) -> Tensor:
    """Return the box, (2, n), that samples (cases, n) stand for.

    The range of the samples and, on both sides, its share range/(cases − 2): so a Latin hypercube of that
    many samples has its own box inside.
    """
    low, high = strains.amin(0), strains.amax(0)
    margin = (high - low) / max(len(strains) - 2, 1)
    return torch.stack([low - margin, high + margin])
