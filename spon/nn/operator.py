"""Structure-preserving operator networks: encode, process, decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.processors.base import Encoded, Known, Processor
from spon.nn.sparse import SparseMap
from spon.physics.kernels.physics import Physics

__all__ = ["TRANSFORMS", "OperatorNetwork"]

TRANSFORMS = ("identity", "log")


class OperatorNetwork(nn.Module):
    """S = D ∘ P ∘ E with a learned processor P (Bouziani & Boullé 2024, arXiv 2410.01065).

    The encoder E takes the DoFs of the inputs, transforms and standardises them, and maps them to
    nodal features. The decoder D maps nodal values y of the latent fields to
    u = u_g + ū + D (s w ⊙ y) with the discretisation's decoder and cut-off w, and the mean ū (of
    u − u_g) and scale s of the training outputs. ū and the range of D are admissible, so u satisfies the
    constraint whatever the processor returns; D works in float64 to keep it exact. Where the
    discretisation asks for zero mean, the mean is subtracted last.

    A processor that acts on DoFs (`Processor.acts_on`) returns û instead: u = u_g + ū + Z û. What a
    processor knows beforehand (`Processor.known`) is added to u, and ū and s are those of the rest.

    `on` gives the same network on another mesh. ū belongs to one mesh, so that only a network without it
    (`centre=False`: u = u_g + D (s w ⊙ y)) crosses meshes.

    Args:
        discretisation: spaces of inputs and output.
        processor: what is learned.
        transform: of the first input before it is standardised: "identity" or "log" (positive inputs).
        centre: subtract the mean of the training outputs; never for a processor that finds the whole
            output (`Processor.whole`).
        positions: tell the processor where nodes are: (p − c) / L with the centre c of the bounding box of
            the mesh and half its largest extent L on the mesh that the network was made on, so that equal
            lengths are equal on all meshes. Without, there are zeros.

    Raises:
        SponError: another transform.
    """

    # buffers
    input_mean: Tensor
    input_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor
    cutoff: Tensor
    shift: Tensor
    centred: Tensor
    length: Tensor
    known_scale: Tensor
    mean_weights: Tensor
    constant: Tensor

    def __init__(
        self,
        discretisation: Discretisation,
        processor: Processor,
        transform: str = "identity",
        centre: bool = True,
        positions: bool = True,
    ) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise SponError(f"transform '{transform}'; allowed: {', '.join(TRANSFORMS)}")
        self.discretisation = discretisation
        self.fingerprint = discretisation.fingerprint
        self.processor = processor
        self.transform, self.centre, self.positions = transform, centre and not processor.whole, positions
        self.spread = nn.ModuleList(
            SparseMap(space.features, torch.float64) for space in discretisation.inputs.values()
        )
        decoder = discretisation.decoder if processor.acts_on == "nodes" else discretisation.constraint.Z
        self.expand = SparseMap(decoder, torch.float64)
        points = discretisation.levels[0].points
        lower, upper = points.min(axis=0), points.max(axis=0)
        for name, array in (
            ("cutoff", discretisation.cutoff),
            ("shift", discretisation.constraint.shift),
            ("centred", (points - (lower + upper) / 2) * float(positions)),
        ):
            self.register_buffer(name, torch.as_tensor(array), persistent=False)
        self.register_buffer("length", torch.tensor((upper - lower).max() / 2, dtype=torch.float64))
        mean = discretisation.zero_mean
        if mean is not None:
            for name, array in (("mean_weights", mean.weights / mean.volume), ("constant", mean.constant)):
                self.register_buffer(name, torch.as_tensor(array), persistent=False)
        inputs, latent = len(discretisation.inputs), discretisation.cutoff.shape[1]
        self.register_buffer("input_mean", torch.zeros(inputs, dtype=torch.float64))
        self.register_buffer("input_scale", torch.ones(inputs, dtype=torch.float64))
        self.register_buffer("output_mean", torch.zeros(discretisation.dofs, dtype=torch.float64))
        self.register_buffer("output_scale", torch.ones(latent, dtype=torch.float64))
        self.register_buffer("known_scale", torch.ones(processor.known_features, dtype=torch.float64))

    @torch.no_grad()
    def fit_normalisation(
        self,
        inputs: npt.NDArray[np.float64],
        outputs: npt.NDArray[np.float64],
        shifts: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Set mean and scale from the training samples, and what the processor has of them in closed form.

        Args:
            inputs: (samples, DoFs of all inputs).
            outputs: (samples, DoFs).
            shifts: (samples, DoFs) u_g of each sample; default: that of the discretisation.

        Raises:
            SponError: an input that the transform does not allow.
        """
        given = torch.as_tensor(inputs)
        self.processor.inspect(given)
        for k, values in enumerate(self._transformed(self._split(given))):
            self.input_mean[k] = values.mean()
            self.input_scale[k] = values.std().clamp_min(1e-12)
        d = self.discretisation
        homogeneous = outputs - (d.constraint.shift if shifts is None else shifts)
        homogeneous = homogeneous - self._fit_known(given, shifts)
        mean = homogeneous.mean(axis=0, keepdims=True) * float(self.centre)
        free = d.constraint.free(mean + d.constraint.shift)
        self.output_mean.copy_(torch.as_tensor(d.constraint.Z @ free[0]))
        scale = _latent_scale(d, np.sqrt(np.mean((homogeneous - mean) ** 2, axis=0)))
        self.output_scale.copy_(torch.as_tensor(scale).clamp_min(1e-12))
        unknowns = d.constraint.free(homogeneous + d.constraint.shift) - free
        device = self.output_mean.device
        self.processor.fit(self.standardise(given.to(device)), torch.as_tensor(unknowns).to(device))

    def _fit_known(
        self, inputs: Tensor, shifts: npt.NDArray[np.float64] | None
    ) -> npt.NDArray[np.float64] | float:
        """Set the scale of what the processor knows beforehand; return where it starts from."""
        squares, count, starts = torch.zeros_like(self.known_scale), 0, []
        device = self.shift.device
        for part in torch.arange(len(inputs)).split(16):
            shift = None if shifts is None else torch.as_tensor(shifts[part]).to(device)
            known = self.processor.known(self._encoded(inputs[part].to(device), shift))
            if known.features is not None:
                squares += known.features.double().square().sum(dim=(0, 1))
                count += known.features.shape[0] * known.features.shape[1]
            if known.start is not None:
                starts.append(known.start.cpu().numpy())
        if count:
            self.known_scale.copy_((squares / count).sqrt().clamp_min(1e-300))
        return np.concatenate(starts) if starts else 0.0

    def _split(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the DoFs of each input, (batch, DoFs) each."""
        return inputs.split([space.dofs for space in self.discretisation.inputs.values()], dim=1)

    def _transformed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        first, *rest = inputs
        if self.transform == "log":
            if not bool((first > 0).all()):
                raise SponError(
                    f"the input must be positive (transform 'log'); smallest value: {first.min():g}"
                )
            first = first.log()
        return [first, *rest]

    def standardise(self, inputs: Tensor) -> Tensor:
        """Return inputs (batch, DoFs of all inputs) transformed, with mean 0 and deviation 1 for each."""
        split = enumerate(self._transformed(self._split(inputs)))
        return torch.cat([(v - self.input_mean[k]) / self.input_scale[k] for k, v in split], dim=1)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return nodal features (nodes, batch, features) float64 of standardised inputs (batch, DoFs)."""
        nodes, batch = len(self.centred), len(inputs)
        parts = []
        for spread, values in zip(self.spread, self._split(inputs), strict=True):
            at_nodes = spread(values.T).reshape(nodes, -1, batch)
            parts.append(at_nodes.transpose(1, 2))
        geometry = torch.cat([self.centred / self.length, self.cutoff], dim=1)
        return torch.cat([*parts, geometry[:, None, :].expand(-1, batch, -1)], dim=2)

    def decode(self, values: Tensor, shift: Tensor | None = None, start: Tensor | None = None) -> Tensor:
        """Return admissible outputs (batch, DoFs) float64.

        Args:
            values: (nodes, batch, latent components); û (batch, columns of Z) of a processor on DoFs.
            shift: (batch, DoFs) u_g of each sample; default: that of the discretisation.
            start: (batch, DoFs) in the range of Z, added.
        """
        if self.processor.acts_on == "nodes":
            nodes, batch, latent = values.shape
            scaled = (self.cutoff * self.output_scale)[:, None, :] * values.double()
            u = self.expand(scaled.transpose(1, 2).reshape(nodes * latent, batch)).T
        else:
            u = self.expand(values.double().T).T
        u = u + self.output_mean + (self.shift if shift is None else shift)
        if start is not None:
            u = u + start
        if self.discretisation.zero_mean is not None:
            u = u - (u @ self.mean_weights)[:, None] * self.constant
        return u

    def forward(self, inputs: Tensor, shift: Tensor | None = None) -> Tensor:
        """Map inputs to outputs.

        Args:
            inputs: (batch, DoFs of all inputs, one input after the other) in canonical order, on the
                module's device.
            shift: (batch, DoFs) u_g of each sample, as `Discretisation.with_boundary_data` gives it;
                default: that of the discretisation.

        Returns:
            (batch, DoFs) float64; the processor works in the dtype of its own parameters.

        Raises:
            SponError: wrong shape, or a value that the transform does not allow.
        """
        encoded, known = self._prepared(inputs, shift)
        return self.decode(self.processor(encoded), shift, known.start)

    def last_features(self, inputs: Tensor, shift: Tensor | None = None) -> Tensor:
        """Return the homogeneous functions that the last linear layer of the processor combines.

        Another set of parameters in that layer changes the output by a combination of them.

        Args:
            inputs: as for `forward`.
            shift: likewise.

        Returns:
            (features, batch, DoFs) float64; a feature for each channel and each latent component.

        Raises:
            SponError: as `forward`; a processor without a last linear layer.
        """
        encoded, _ = self._prepared(inputs, shift)
        x = self.processor.last_features(encoded).double()
        rows, batch, channels = x.shape
        x = x.transpose(1, 2)
        if self.processor.acts_on == "nodes":
            each = torch.diag_embed(self.cutoff * self.output_scale)  # one latent component in each feature
            rows, channels = rows * each.shape[1], channels * each.shape[1]
            x = each[:, :, :, None, None] * x[:, None, None]
        out: Tensor = self.expand(x.reshape(rows, -1)).reshape(-1, channels, batch).permute(1, 2, 0)
        if self.discretisation.zero_mean is not None:
            out = out - (out @ self.mean_weights)[:, :, None] * self.constant
        return out

    def _prepared(self, inputs: Tensor, shift: Tensor | None) -> tuple[Encoded, Known]:
        """Return what the processor is told of inputs, and what it knew of them."""
        n = sum(space.dofs for space in self.discretisation.inputs.values())
        if inputs.ndim != 2 or inputs.shape[1] != n:
            raise SponError(f"inputs of shape {tuple(inputs.shape)}; allowed: (batch, {n})")
        raw = inputs.double()
        encoded = self._encoded(raw, shift)
        known = self.processor.known(encoded)
        if known.features is not None:
            scaled = (known.features / self.known_scale).to(encoded.features.dtype)
            encoded = replace(encoded, features=torch.cat([encoded.features, scaled], dim=2))
        return encoded, known

    def _encoded(self, raw: Tensor, shift: Tensor | None) -> Encoded:
        """Return what the processor is told of inputs (batch, DoFs of all inputs) float64."""
        standard, dtype = self.standardise(raw), self.processor.dtype
        coefficient = None
        if self.discretisation.input.components == 1:
            coefficient = self.spread[0](self._split(raw)[0].T).to(dtype)
        return Encoded(self.encode(standard).to(dtype), coefficient, standard, raw, shift)

    def on(self, discretisation: Discretisation, physics: Physics | None = None) -> OperatorNetwork:
        """Return the same network on another mesh: parameters and normalisation are shared, not copied.

        Args:
            discretisation: inputs and output of the same kinds.
            physics: equations there, for processors that need them.

        Raises:
            SponError: spaces of another kind; a network that holds the mean of outputs on its mesh; a
                processor that belongs to its mesh.
        """
        here, there = self.discretisation.kind, discretisation.kind
        if here != there:
            raise SponError(f"spaces {there}; allowed: those of the network, {here}")
        if self.centre:
            raise SponError(
                "the network holds the mean of the training outputs, which belongs to one mesh; allowed: a "
                "network that was trained with centre=False"
            )
        processor = self.processor.on(discretisation)
        if physics is not None:
            processor.use(physics)
        other = OperatorNetwork(discretisation, processor, self.transform, False, self.positions)
        other.to(self.shift.device)
        for name in ("input_mean", "input_scale", "output_scale", "known_scale", "length"):
            setattr(other, name, getattr(self, name))
        return other.train(self.training)

    @torch.no_grad()
    def predict(
        self,
        inputs: npt.NDArray[np.float64],
        batch_size: int = 16,
        shift: npt.NDArray[np.float64] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Map numpy arrays in batches, without gradients.

        Args:
            inputs: (samples, DoFs of all inputs) in canonical order.
            batch_size: samples at a time.
            shift: (samples, DoFs) u_g of each sample; default: that of the discretisation.

        Returns:
            (samples, DoFs) float64.
        """
        device = self.shift.device
        batches = torch.as_tensor(inputs).split(batch_size)
        data: Any = [None] * len(batches)
        if shift is not None:
            data = [part.to(device) for part in torch.as_tensor(shift).split(batch_size)]
        pairs = zip(batches, data, strict=True)
        return torch.cat([self(b.to(device), g).cpu() for b, g in pairs]).numpy()


def _latent_scale(d: Discretisation, deviation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the size of each latent component that explains the deviations of the DoFs it acts on.

    A unit of size is what constant or linear nodal values with maximum 1 make of these DoFs: values
    for Lagrange, fluxes for H(div), and differences for potentials.

    Args:
        d: with n latent components.
        deviation: (DoFs,).

    Returns:
        (n,).
    """
    points, n = d.levels[0].points, d.cutoff.shape[1]
    centred = 2 * (points - points.min(axis=0)) / np.ptp(points, axis=0).max() - 1
    probes = np.concatenate([np.ones((len(points), 1)), centred], axis=1)
    out = np.ones(n)
    for component in range(n):
        columns = sp.csc_array(d.decoder)[:, component::n]
        unit = np.abs(columns @ probes).max(initial=0.0)
        if unit > 0.0:
            out[component] = deviation[np.unique(columns.indices)].max() / unit
    return out
