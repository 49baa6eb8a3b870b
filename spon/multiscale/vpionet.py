"""A variational DeepONet of a cell: a network of the strain, one of the place, and the least potential."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.errors import SponError
from spon.multiscale.branch import Branch
from spon.multiscale.local_fields import LocalFields
from spon.multiscale.micromodel import Response
from spon.multiscale.snapshots import Snapshots
from spon.multiscale.surrogate import Surrogate, trained_box
from spon.multiscale.unlabelled import Unlabelled, sample_weights, train_unlabelled
from spon.nn.sparse import SparseMap

if TYPE_CHECKING:
    from spon.multiscale.rve import RVE

__all__ = ["StrainModes", "Trunk", "VariationalDeepONet"]

_FREQUENCIES = 3
_WIDTHS = (64, 64, 64)


class Trunk(nn.Module):
    """Displacements as functions of the place, periodic over a box.

    Args:
        low, lengths: (d,) corner and sides of the box.
        rank: r, the number of displacement fields.
    """

    def __init__(self, low: Tensor, lengths: Tensor, rank: int) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("lengths", lengths)
        self.rank, d = rank, len(lengths)
        sizes = [2 * _FREQUENCIES * d, *_WIDTHS, d * rank]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, dtype=torch.float64), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, points: Tensor) -> Tensor:
        """Return displacements, (m, d, r), at points (m, d), in units of the longest side."""
        angle = 2 * math.pi * (points - self.low) / self.lengths
        waves = [wave(k * angle) for k in range(1, _FREQUENCIES + 1) for wave in (torch.sin, torch.cos)]
        out: Tensor = self.layers(torch.cat(waves, 1)).reshape(*points.shape, self.rank)
        return out * self.lengths.max()


class StrainModes:
    """Strains of a trunk's displacements, interpolated to the finite-element space, at some points of a cell.

    The trunk is evaluated at the nodes of the cells of these points alone: a step of training does not grow
    with the mesh.

    Args:
        rve: cell.
        trunk: displacements.
    """

    def __init__(self, rve: RVE, trunk: Trunk) -> None:
        self.operator, self.n = sp.csr_array(rve.strain_operator), rve.strain_size
        self.nodes, self.trunk = torch.as_tensor(rve.node_coordinates), trunk
        self._choose(torch.arange(0))

    def __call__(self, points: Tensor) -> Tensor:
        """Return strains, (m, n, r), at points (m,) int64."""
        if points is not self.points:
            self._choose(points)
        out: Tensor = self.map(self.trunk(self.here).flatten(0, 1))
        return out.reshape(len(points), self.n, self.trunk.rank)

    def _choose(self, points: Tensor) -> None:
        rows = self.operator[(self.n * points[:, None] + torch.arange(self.n)).flatten().numpy()]
        d = self.nodes.shape[1]
        nodes, places = np.unique(rows.indices // d, return_inverse=True)
        columns = d * places + rows.indices % d
        matrix = sp.csr_array((rows.data, columns, rows.indptr), (rows.shape[0], d * len(nodes)))
        self.points, self.here, self.map = points, self.nodes[nodes], SparseMap(matrix, torch.float64)


class VariationalDeepONet(Surrogate):
    """VPIONet, the comparison of Eivazi et al. 2025 (arXiv 2504.07976), with the potential of the laws.

    Displacement fluctuations are Σ b_k(E) t_k(x), with networks b of the macroscopic strain and t of the
    place; t has periodic features and is interpolated to the finite-element space, so that the potential is
    never below that of the finite-element solution. Training minimises the mean potential; it needs no labels
    and of the snapshots the range of the strains alone. (½ σ : ε, as in the paper, is not the potential of a
    nonlinear law.) Stresses follow from the laws, so equilibrium is not exact; macroscopic ones are their
    mean over all points of the cell, which is slow, with the derivative by automatic differentiation. There
    is no estimate of the error: the indicator is nan, and infinite outside the trained box.

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
        torch.manual_seed(how.seed)
        nodes = torch.as_tensor(rve.node_coordinates)
        trunk = Trunk(nodes.amin(0), nodes.amax(0) - nodes.amin(0), rank)
        branch = Branch(box, ((box[1] - box[0]).max() / 2).expand(rank).clone())
        weights = torch.as_tensor(rve.weights)
        no_modes = torch.zeros(len(weights), rve.strain_size, 0, dtype=torch.float64)
        cell = LocalFields.from_strains(rve, no_modes, no_modes)
        strain_modes = StrainModes(rve, trunk)

        def fields(points: Tensor, weights: Tensor) -> LocalFields:
            some = cell.at(points, weights)
            some.strain_modes = strain_modes(points)
            return some

        def loss(strain: Tensor, points: Tensor) -> Tensor:
            some = fields(points, sample_weights(weights, weights, points))
            uniform = strain[:, None].expand(-1, len(points), -1)
            potential = some.potentials(some.strains(strain, branch(strain))) @ some.weights
            return (potential / (some.potentials(uniform) @ some.weights)).mean()

        parameters = [*trunk.parameters(), *branch.parameters()]
        train_unlabelled(parameters, loss, weights, box, how)
        with torch.no_grad():
            whole = fields(torch.arange(len(weights)), weights)
            return cls(whole, branch, trunk(nodes).flatten(0, 1), box)

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
