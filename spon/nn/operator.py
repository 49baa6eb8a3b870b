"""Structure-preserving operator networks: encode, process, decode."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.sparse import SparseMap

__all__ = ["TRANSFORMS", "OperatorNetwork"]

TRANSFORMS = ("identity", "log")


class OperatorNetwork(nn.Module):
    """S = D ∘ P ∘ E with a learned processor P (Bouziani & Boullé 2024, arXiv 2410.01065).

    The encoder E takes the DoFs of the input, transforms and standardises them. The decoder D maps
    nodal values y to u = Z (ū + s Z⁺(w y)) + u_g with the constraint's Z and u_g, the cut-off w, and
    the mean ū and scale s of the training outputs. Prescribed DoFs have zero rows in Z, so boundary
    values are those of u_g whatever the processor returns; D works in float64 to keep them exact.

    Args:
        discretisation: spaces of input and output.
        processor: module (features, coefficient) ↦ (nodes, batch, 1), where features are
            (nodes, batch, features) and coefficient is the input itself, (nodes, batch).
        transform: of the input before it is standardised: "identity" or "log" (positive inputs).

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
    coordinates: Tensor

    def __init__(
        self, discretisation: Discretisation, processor: nn.Module, transform: str = "identity"
    ) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise SponError(f"transform '{transform}'; allowed: {', '.join(TRANSFORMS)}")
        self.discretisation = discretisation
        self.fingerprint = discretisation.fingerprint
        self.processor = processor
        self.transform = transform
        constraint = discretisation.constraint
        self.expand = SparseMap(constraint.Z, torch.float64)
        self.restrict = SparseMap(constraint.from_latent, torch.float64)
        points = discretisation.levels[0].points
        centred = 2 * (points - points.min(axis=0)) / np.ptp(points, axis=0).max() - 1
        for name, array in (
            ("cutoff", discretisation.cutoff),
            ("shift", constraint.shift),
            ("coordinates", centred),
        ):
            self.register_buffer(name, torch.as_tensor(array), persistent=False)
        free = constraint.Z.shape[1]
        self.register_buffer("input_mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("input_scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("output_mean", torch.zeros(free, dtype=torch.float64))
        self.register_buffer("output_scale", torch.ones((), dtype=torch.float64))

    @staticmethod
    def features(gdim: int) -> int:
        """Number of input features of a processor: input, coordinates, cut-off."""
        return gdim + 2

    @torch.no_grad()
    def fit_normalisation(self, inputs: npt.NDArray[np.float64], outputs: npt.NDArray[np.float64]) -> None:
        """Set mean and scale from the training samples.

        Args:
            inputs: (samples, DoFs).
            outputs: (samples, DoFs).

        Raises:
            SponError: an input that the transform does not allow.
        """
        m = self._transformed(torch.as_tensor(inputs))
        self.input_mean.copy_(m.mean())
        self.input_scale.copy_(m.std().clamp_min(1e-12))
        constraint = self.discretisation.constraint
        free = constraint.free(outputs)
        self.output_mean.copy_(torch.as_tensor(free.mean(axis=0)))
        self.output_scale.copy_(torch.as_tensor(free.std(axis=0).max()).clamp_min(1e-12))

    def _transformed(self, inputs: Tensor) -> Tensor:
        if self.transform == "log":
            if not bool((inputs > 0).all()):
                raise SponError(
                    f"the input must be positive (transform 'log'); smallest value: {inputs.min():g}"
                )
            return inputs.log()
        return inputs

    def encode(self, inputs: Tensor) -> Tensor:
        """Return nodal features (nodes, batch, features) float64 of inputs (batch, DoFs)."""
        m = (self._transformed(inputs) - self.input_mean) / self.input_scale
        geometry = torch.cat([self.coordinates, self.cutoff[:, None]], dim=1)
        geometry = geometry[:, None, :].expand(-1, len(inputs), -1)
        return torch.cat([m.T[:, :, None], geometry], dim=2)

    def decode(self, values: Tensor) -> Tensor:
        """Return admissible outputs (batch, DoFs) float64 of nodal values (nodes, batch)."""
        free = self.restrict(self.cutoff[:, None] * values.double())
        admissible = self.expand(self.output_mean[:, None] + self.output_scale * free)
        return (admissible + self.shift[:, None]).T

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to outputs.

        Args:
            inputs: (batch, DoFs) in canonical order, on the module's device.

        Returns:
            (batch, DoFs) float64; the processor works in the dtype of its own parameters.

        Raises:
            SponError: wrong shape, or a value that the transform does not allow.
        """
        n = self.discretisation.dofs
        if inputs.ndim != 2 or inputs.shape[1] != n:
            raise SponError(f"inputs of shape {tuple(inputs.shape)}; allowed: (batch, {n})")
        inputs = inputs.double()
        dtype = next(self.processor.parameters()).dtype
        values = self.processor(self.encode(inputs).to(dtype), inputs.T.to(dtype))
        return self.decode(values[:, :, 0])

    @torch.no_grad()
    def predict(self, inputs: npt.NDArray[np.float64], batch_size: int = 16) -> npt.NDArray[np.float64]:
        """Map numpy arrays in batches, without gradients.

        Args:
            inputs: (samples, DoFs) in canonical order.
            batch_size: samples at a time.

        Returns:
            (samples, DoFs) float64.
        """
        device = self.shift.device
        batches = torch.as_tensor(inputs).split(batch_size)
        return torch.cat([self(b.to(device)).cpu() for b in batches]).numpy()
