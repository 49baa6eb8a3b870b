"""Geometry-informed neural operator (Li et al. 2023, NeurIPS), `neuralop.models.GINO`."""

import torch
from neuralop import models
from neuralop.layers import integral_transform
from torch import nn

from peers.grid import grid_shape
from peers.surrogate import Surrogate, unit_box


def segment_reduce(source, splits, reduction, use_scatter=False):
    """Do what `neuralop.layers.segment_csr` does, without its loop over the points in Python.

    neuralop is quick with torch-scatter, which has no builds for current releases of torch.

    Args:
        source: (batch, neighbours, channels), or without the batch.
        splits: (batch, points + 1) or (points + 1,), the same for all samples.
        reduction: "sum" or "mean".
        use_scatter: ignored.
    """
    axis, splits = source.ndim - 2, splits.reshape(-1, splits.shape[-1])[0]
    counts = splits.diff()
    shape = list(source.shape)
    shape[axis] = len(counts)
    to = torch.repeat_interleave(torch.arange(len(counts)), counts)
    out = source.new_zeros(shape).index_add(axis, to, source)
    return out / counts.clamp_min(1)[:, None] if reduction == "mean" else out


class Kept(nn.Module):
    """A neighbour search whose result is kept: the mesh is the same for all samples."""

    def __init__(self, search):
        super().__init__()
        self.search, self.found = search, None

    def forward(self, data, queries, radius):
        """Return the neighbours that the first call found."""
        if self.found is None:
            self.found = self.search(data=data, queries=queries, radius=radius)
        return self.found


class GINO(Surrogate):
    """GINO on the nodes of the mesh; kernels and blocks as in neuraloperator's two-dimensional example.

    Latent grid and radii follow the mesh: as fine as the grid of the FNO over `coarsening`, radii of
    `reach` grid lengths (documented: 0.16 and 0.175 of the domain, 340 neighbours a point, too many
    for this budget). Neighbour sums by `segment_reduce`, neighbours are searched once.
    """

    learning_rates = (2e-3, 4e-3, 8e-3)
    batch_size = 8
    width, modes = 24, 12  # documented: 64 and 20; tried: 16, 24 and 32 channels
    coarsening, reach = 2, 1.6

    def __init__(self, train, transform):
        super().__init__(train, transform)
        integral_transform.segment_csr = segment_reduce
        level = train.discretisation.levels[0]
        shape = [max(4, (n - 1) // self.coarsening + 1) for n in grid_shape(level.points, level.cells)]
        box = unit_box(level.points)
        self.register_buffer("nodes", box)
        sides = [torch.linspace(0, float(box[:, k].max()), n) for k, n in zip((1, 0), shape, strict=True)]
        y, x = torch.meshgrid(*sides, indexing="ij")
        self.register_buffer("latent", torch.stack([x, y], dim=2))
        radius = self.reach * max(float(s[1]) for s in sides)
        self.network = models.GINO(
            in_channels=self.channels + 2,
            out_channels=self.components,
            projection_channel_ratio=4,
            gno_coord_dim=2,
            in_gno_radius=radius,
            out_gno_radius=radius,
            gno_weighting_function=None,
            in_gno_pos_embed_type="transformer",
            out_gno_pos_embed_type="transformer",
            gno_embed_channels=16,
            gno_embed_max_positions=600,
            in_gno_channel_mlp_hidden_layers=[64, 64],
            out_gno_channel_mlp_hidden_layers=[128, 64],
            gno_use_open3d=False,
            gno_use_torch_scatter=False,
            fno_in_channels=self.channels + 2,
            fno_n_modes=tuple(min(self.modes, int(n)) for n in shape),
            fno_hidden_channels=self.width,
            fno_norm="group_norm",
        )
        for block in (self.network.gno_in, self.network.gno_out):
            block.neighbor_search = Kept(block.neighbor_search)

    def features(self, inputs):
        """Add the coordinates, as the documented example does."""
        values = super().features(inputs)
        return torch.cat([values, self.nodes.expand(len(values), -1, -1)], dim=2)

    def field(self, features):
        """Apply the network."""
        return self.network(
            x=features, input_geom=self.nodes, latent_queries=self.latent, output_queries=self.nodes
        )
