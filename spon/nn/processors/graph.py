"""Message passing along the edges of the mesh."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.level import Level
from spon.nn.processors.base import (
    Encoded,
    Processor,
    feature_count,
    moved,
    real_type,
    require_sizes,
    with_constant,
)
from spon.nn.sparse import SparseMap

__all__ = ["Graph"]


class Graph(Processor):
    """MeshGraphNet: messages along edges, with residual updates of edges and nodes (Pfaff et al. 2021, ICLR).

    Directed edges join the nodes that share a cell of the finest level, in both directions: for
    first-order simplices the edges of the mesh; for others also the diagonals of a cell. Edge
    features are the position of the sender seen from the receiver, over the mesh size h at the receiver,
    and its length: the same on a mesh of any size. A step is

        e ← e + φ(A e + B x_sender + C x_receiver + b)
        x ← x + MLP(x, mean of e over the edges that arrive)

    with LayerNorm before each use of x. Against the paper, edges are updated by one layer and not by a
    deep network, since there are six directed edges for each node of a triangle mesh; messages are
    averaged and not summed, since the number of neighbours says nothing about the solution. Information
    travels one edge in a step, so that this is for local operators: there are no coarser levels here.

    Args:
        discretisation: whose finest level is the graph.
        width: channels of nodes and edges.
        steps: of message passing.
        dtype: of parameters and arithmetic, `torch.float32` or `torch.float64`, or its name.
        seed: of the initial parameters.

    Raises:
        SponError: a size < 1, or another dtype.
    """

    # buffers
    offsets: Tensor

    def __init__(
        self,
        discretisation: Discretisation,
        width: int = 8,
        steps: int = 16,
        dtype: torch.dtype | str = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "steps": steps}
        require_sizes(sizes)
        name, real = real_type(dtype)
        self.settings = {**sizes, "dtype": name, "seed": seed}
        level = discretisation.levels[0]
        sender, receiver, mean = _incidence(level)
        # one product gathers both ends of every edge
        self.gather = SparseMap(sp.hstack([sender, receiver]), real)
        self.mean = SparseMap(mean, real)
        offsets = torch.as_tensor(_offsets(level, sender, receiver)).to(real)
        self.register_buffer("offsets", offsets, persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.lift = _dense(feature_count(discretisation), width, width, real)
            self.lift_edges = _dense(level.gdim + 1, width, width, real)
            self.steps = nn.ModuleList(_Step(width, real) for _ in range(steps))
            self.read = nn.Linear(width, discretisation.cutoff.shape[1], dtype=real)
        nn.init.zeros_(self.read.weight)  # start from the mean of the training outputs
        nn.init.zeros_(self.read.bias)

    def on(self, discretisation: Discretisation) -> Graph:
        """Return the processor on another mesh, with the same parameters.

        Raises:
            SponError: other numbers of features or latent components.
        """
        return moved(self, discretisation)

    def forward(self, encoded: Encoded) -> Tensor:
        """Map nodal features to latent fields, (nodes, batch, latent components)."""
        out: Tensor = self.read(self._hidden(encoded))
        return out

    def last_features(self, encoded: Encoded) -> Tensor:
        """Return the channels of the nodes and the constant, (nodes, batch, features)."""
        return with_constant(self._hidden(encoded))

    def _hidden(self, encoded: Encoded) -> Tensor:
        """Return the channels after the last step, (nodes, batch, channels)."""
        x: Tensor = self.lift(encoded.features)
        edges = self.lift_edges(self.offsets)[:, None]  # (edges, 1, channels): the same for all samples
        for step in self.steps:
            x, edges = step(x, edges, self.gather, self.mean)
        return x


class _Step(nn.Module):
    """One step of message passing."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, dtype=dtype)
        self.ends = nn.Linear(width, 2 * width, bias=False, dtype=dtype)
        self.edge = nn.Linear(width, width, dtype=dtype)
        self.node = _dense(2 * width, width, width, dtype)

    def forward(self, x: Tensor, edges: Tensor, gather: SparseMap, mean: SparseMap) -> tuple[Tensor, Tensor]:
        normal = self.norm(x)
        at_ends = torch.cat(self.ends(normal).chunk(2, dim=2))  # B x of all nodes, then C x
        edges = edges + nn.functional.silu(gather(at_ends) + self.edge(edges))
        return x + self.node(torch.cat([normal, mean(edges)], dim=2)), edges


def _dense(inputs: int, hidden: int, outputs: int, dtype: torch.dtype) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden, dtype=dtype), nn.SiLU(), nn.Linear(hidden, outputs, dtype=dtype)
    )


def _incidence(level: Level) -> tuple[sp.csr_array, sp.csr_array, sp.csr_array]:
    """Return what picks sender and receiver, (edges, nodes), and the mean over edges, (nodes, edges)."""
    m, n = level.cells.shape
    of_cells = sp.csr_array(
        (np.ones(m * n), level.cells.ravel(), np.arange(0, m * n + 1, n)), shape=(m, len(level.points))
    )
    neighbours = sp.csr_array(of_cells.T @ of_cells)
    neighbours.setdiag(0)
    neighbours.eliminate_zeros()
    neighbours.sort_indices()
    edges, count = neighbours.nnz, np.diff(neighbours.indptr)
    receivers = np.repeat(np.arange(len(count)), count)
    one, each = np.ones(edges), np.arange(edges + 1)
    shape = (edges, len(count))
    sender = sp.csr_array((one, neighbours.indices, each), shape=shape)
    receiver = sp.csr_array((one, receivers, each), shape=shape)
    mean = sp.csr_array((1.0 / count[receivers], each[:-1], neighbours.indptr), shape=shape[::-1])
    return sender, receiver, mean


def _offsets(level: Level, sender: sp.csr_array, receiver: sp.csr_array) -> np.ndarray:
    """(edges, gdim + 1): where the sender lies, over h at the receiver, and how far."""
    size = level.lumped_mass ** (1.0 / level.gdim)
    difference = ((sender - receiver) @ level.points) / (receiver @ size)[:, None]
    return np.column_stack([difference, np.linalg.norm(difference, axis=1)])
