"""What all peers share: data in and out of finite-element spaces, normalisation, settings of training."""

import numpy as np
import scipy.sparse as sp
import torch
from scipy.spatial import KDTree
from torch import nn

import spon
from spon.nn.sparse import SparseMap


class Surrogate(nn.Module):
    """A map from the DoFs of the inputs to those of the output, with no boundary values built in.

    Inputs become nodal features: standardised over all training samples, after the logarithm where the
    problem asks for it (spon's networks get the same). Boundary data, which live on a boundary, are spread
    to the nodes inside by taking the nearest one. Outputs are the mean of the training outputs plus the
    network's output times the standard deviation of each component.

    Args:
        train: training samples; output in a first-order Lagrange space.
        transform: of the first input, "identity" or "log".

    Attributes:
        learning_rates: of which the best is taken.
        batch_size, weight_decay, clip, norm: of training; as documented for the peer, where documented.

    Raises:
        spon.SponError: another output space.
    """

    learning_rates = (5e-4, 1e-3, 2e-3)
    batch_size = 8
    weight_decay = 1e-4
    clip = 1.0
    norm = "h1"

    def __init__(self, train, transform):
        super().__init__()
        d = train.discretisation
        if (d.output.interpolation != sp.eye_array(d.dofs)).nnz:
            raise spon.SponError(f"output in {d.output.element}; allowed: first-order Lagrange elements")
        self.transform, self.components = transform, d.output.components
        self.points = d.levels[0].points
        self.sizes = [space.dofs for space in d.inputs.values()]
        maps = [nodal(d, name, name in train.boundary_data) for name in d.inputs]
        self.spread = nn.ModuleList(SparseMap(m) for m in maps)
        self.channels = sum(m.shape[0] // len(self.points) for m in maps)
        self.register_buffer("input_mean", torch.zeros(len(maps)))
        self.register_buffer("input_scale", torch.ones(len(maps)))
        self.register_buffer("output_mean", torch.zeros(d.dofs, dtype=torch.float64))
        self.register_buffer("output_scale", torch.ones(self.components))

    def fit_normalisation(self, inputs, outputs, shifts=None):
        """Set mean and scale; inputs and outputs (samples, DoFs). u_g plays no part."""
        for k, values in enumerate(self.transformed(torch.as_tensor(inputs))):
            self.input_mean[k], self.input_scale[k] = values.mean(), values.std().clamp_min(1e-12)
        self.output_mean.copy_(torch.as_tensor(outputs.mean(axis=0)))
        deviation = (outputs - outputs.mean(axis=0)).reshape(-1, self.components).std(axis=0)
        self.output_scale.copy_(torch.as_tensor(deviation))

    def transformed(self, inputs):
        """Return the DoFs of each input, the first one as its logarithm where asked for."""
        first, *rest = inputs.split(self.sizes, dim=1)
        return [first.log() if self.transform == "log" else first, *rest]

    def standardised(self, inputs):
        """Return each input (batch, DoFs) float32 with mean 0 and deviation 1."""
        values = enumerate(self.transformed(inputs))
        return [((v - self.input_mean[k]) / self.input_scale[k]).float() for k, v in values]

    def features(self, inputs):
        """Return nodal features (batch, nodes, channels) of inputs (batch, DoFs)."""
        nodes, batch = len(self.points), len(inputs)
        pairs = zip(self.spread, self.standardised(inputs), strict=True)
        parts = [spread(v.T).reshape(nodes, -1, batch).permute(2, 0, 1) for spread, v in pairs]
        return torch.cat(parts, dim=2)

    def field(self, features):
        """Map features to the standardised output at the nodes, (batch, nodes, components)."""
        raise NotImplementedError

    def forward(self, inputs, shift=None):
        """Map inputs (batch, DoFs) to outputs (batch, DoFs) float64."""
        scaled = self.field(self.features(inputs)) * self.output_scale
        return self.output_mean + scaled.reshape(len(inputs), -1).double()

    @torch.no_grad()
    def predict(self, inputs, batch_size=16, shift=None):
        """Map numpy arrays in batches, without gradients."""
        return torch.cat([self(b) for b in torch.as_tensor(inputs).split(batch_size)]).numpy()


def nodal(discretisation, name, on_boundary):
    """Return the matrix (nodes · components, DoFs) from an input to values at the nodes."""
    features = discretisation.inputs[name].features
    if not on_boundary:
        return features
    points = discretisation.levels[0].points
    if discretisation.inputs[name].components != 1:
        raise spon.SponError(f"boundary data '{name}' with several components; allowed: one")
    there = np.flatnonzero(np.diff(features.indptr))
    return features[there[KDTree(points[there]).query(points)[1]]]


def unit_box(points):
    """Return points scaled by one factor into the unit square, (nodes, 2) float32."""
    lower = points.min(axis=0)
    return torch.as_tensor((points - lower) / np.ptp(points, axis=0).max()).float()
