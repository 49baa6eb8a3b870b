"""A variational DeepONet of a cell: a network of the strain, one of the place, and the least potential."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spon.errors import SponError
from spon.multiscale.branch import Branch
from spon.multiscale.local_fields import LocalFields
from spon.multiscale.micromodel import Response
from spon.multiscale.snapshots import Snapshots
from spon.multiscale.surrogate import Surrogate, trained_box
from spon.multiscale.trunk import StrainModes, Trunk, node_features
from spon.multiscale.unlabelled import Unlabelled, train_unlabelled

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["VariationalDeepONet"]


class VariationalDeepONet(Surrogate):
    """VPIONet, the comparison of Eivazi et al. 2025 (arXiv 2504.07976), with the potential of the laws.

    Displacement fluctuations are Σ b_k(E) t_k(x), with networks b of the macroscopic strain and t of the
    place; t sees periodic functions of it, other than published also the distances to the phases
    (`node_features`), and is interpolated to the finite-element space, so that the potential is never below
    that of the finite-element solution. Training minimises the mean potential over that of uniform strain; it
    needs no labels and of the snapshots the range of the strains alone. (½ σ : ε, as in the paper, is not the
    potential of a nonlinear law.) Stresses follow from the laws, so equilibrium is not exact: where a phase
    is stiff, small errors of the strain are large ones of the stress. Macroscopic stresses are the mean over
    all points of the cell, which is slow, with the derivative by automatic differentiation. There is no
    estimate of the error: the indicator is nan, and infinite outside the trained box.

    Args:
        fields: cell with the strains of t as its modes.
        branch: b.
        modes: (dofs, r) the displacements t.
        box: (2, n) trained strains.
    """

    batch: ClassVar[int] = 20
    settings: ClassVar[tuple[str, ...]] = ("rank", "steps", "refinements", "seed", "show")
    modes: Tensor

    def __init__(self, fields: LocalFields, branch: Branch, modes: Tensor, box: Tensor) -> None:
        super().__init__(box)
        self.fields, self.branch = fields, branch
        self.register_buffer("modes", modes)

    @classmethod
    def fit(
        cls,
        rve: RVE,
        snapshots: Snapshots,
        held_back: Snapshots | None = None,
        rank: int = 16,
        **settings: Any,
    ) -> VariationalDeepONet:
        """Train on strains in the box of some load cases; nothing else of these is used.

        Args:
            rve: cell.
            snapshots: load cases.
            held_back: not used: there is no indicator to calibrate.
            rank: number of products b_k t_k.
            settings: of `Unlabelled`.

        Raises:
            SponError: see `Unlabelled` and `train_unlabelled`; or `rank` is not positive.
        """
        if rank < 1:
            raise SponError(f"{rank} products; allowed: 1 or more")
        how = Unlabelled(**settings)
        box = trained_box(snapshots.strains)
        features, lengths = node_features(rve), torch.as_tensor(np.ptp(rve.node_coordinates, axis=0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(how.seed)
            trunk = Trunk(features.shape[1], lengths, rank)
            branch = Branch(box, ((box[1] - box[0]).max() / 2).expand(rank).clone())
        weights = torch.as_tensor(rve.weights)
        no_modes = torch.zeros(len(weights), rve.strain_size, 0, dtype=torch.float64)
        cell = LocalFields.from_strains(rve, no_modes, no_modes)
        volumes = torch.bincount(cell.phases, weights, len(cell.laws))
        strain_modes = StrainModes(rve, features, trunk)

        def fields(points: Tensor, weights: Tensor) -> LocalFields:
            some = cell.at(points, weights)
            some.strain_modes = strain_modes(points)
            return some

        def loss(strain: Tensor, points: Tensor, weights: Tensor) -> Tensor:
            some = fields(points, weights)
            potential = some.potentials(some.strains(strain, branch(strain))) @ some.weights
            uniform = sum(v * law.potential(strain) for v, law in zip(volumes, cell.laws, strict=True))
            return (potential / uniform).mean()

        parameters = [*trunk.parameters(), *branch.parameters()]
        train_unlabelled(parameters, loss, weights, box, how)
        with torch.no_grad():
            whole = fields(torch.arange(len(weights)), weights)
            return cls(whole, branch, trunk(features).flatten(0, 1), box)

    def fluctuation(self, strain: Tensor) -> Tensor:
        """Return displacement fluctuations, (batch, dofs), at strains (batch, n)."""
        out: Tensor = self.branch(strain) @ self.modes.T
        return out

    def respond_within(self, strain: Tensor) -> Response:
        """Return the response to strains (batch, n)."""
        slopes = torch.func.vmap(torch.func.jacfwd(self.branch))(strain)
        strains = self.fields.strains(strain, self.branch(strain))
        stress, tangent = torch.zeros_like(strain), strain.new_zeros(*strain.shape, self.strain_size)
        for phase, law in enumerate(self.fields.laws):
            here = (self.fields.phases == phase).nonzero()[:, 0]
            w = self.fields.weights[here] / self.fields.volume
            s, C = law.response(strains[:, here].reshape(-1, self.strain_size))
            C = C.reshape(len(strain), len(here), *C.shape[1:])
            through = torch.einsum("p,bpij,pjr->bir", w, C, self.fields.strain_modes[here])
            stress += torch.einsum("p,bpi->bi", w, s.reshape(len(strain), len(here), -1))
            tangent += torch.einsum("p,bpij->bij", w, C) + through @ slopes
        return Response(stress, tangent, None, ~torch.isfinite(stress).all(1))

    @torch.no_grad()
    def local(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return strains and the laws' stresses at the points of the cell, (batch, points, n) each.

        Args:
            strain: (batch, n) macroscopic strains, float64.

        Raises:
            SponError: a strain of another length or type.
        """
        strain = self.on_device(strain)
        strains = self.fields.strains(strain, self.branch(strain))
        return strains, self.fields.stresses(strains)

    def content(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        return {
            "fields": self.fields.content(),
            "branch": self.branch.content(),
            "modes": self.modes.cpu(),
            "box": self.box.cpu(),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> VariationalDeepONet:
        """Make what `content` described."""
        fields, branch = LocalFields.from_content(content["fields"]), Branch.from_content(content["branch"])
        return cls(fields, branch, content["modes"], content["box"])
