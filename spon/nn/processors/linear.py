"""Affine least squares in closed form."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from spon.discretisation import Discretisation
from spon.errors import SponError
from spon.nn.processors.base import Encoded, Processor
from spon.nn.reduction import input_mass, pod, ridge_parameter, unknown_mass

__all__ = ["Linear"]


class Linear(Processor):
    """Affine map from the DoFs of the inputs to the unknowns, fitted in closed form; float64.

    û = ŷ + B M (x − x̄) with the B that minimises Σ |û_i − û(x_i)|² + λ ‖B‖², in the mass inner
    products of inputs and output: minimum norm for λ → 0, where it is exact for an affine operator on
    all that the samples span. By the principal components of the inputs (Jolliffe 2002, chapter 8),
    without those below round-off; λ by generalised cross-validation. There is nothing to train:
    `fit` is all.

    Args:
        discretisation: spaces of inputs and output.
        ridge: λ relative to the largest squared singular value of the inputs; None: by
            generalised cross-validation; 0: minimum norm.

    Raises:
        SponError: a negative ridge.
    """

    acts_on: ClassVar[str] = "dofs"
    trainable: ClassVar[bool] = False

    # buffers, of a rank that only the samples know
    centre: Tensor
    offset: Tensor
    directions: Tensor
    responses: Tensor

    def __init__(self, discretisation: Discretisation, ridge: float | None = None) -> None:
        super().__init__()
        if ridge is not None and not ridge >= 0:
            raise SponError(f"ridge = {ridge}; allowed: >= 0, or None for generalised cross-validation")
        self.settings = {"ridge": ridge}
        self._masses = input_mass(discretisation), unknown_mass(discretisation)
        inputs, unknowns = (mass.shape[0] for mass in self._masses)
        for name, shape in (
            ("centre", (inputs,)),
            ("offset", (unknowns,)),
            ("directions", (inputs, 0)),
            ("responses", (0, unknowns)),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def fit(self, inputs: Tensor, unknowns: Tensor) -> None:
        """Solve the least-squares problem.

        Args:
            inputs: (samples, DoFs of all inputs) float64, transformed and standardised.
            unknowns: (samples, columns of Z) float64.

        Raises:
            SponError: fewer than 2 samples, or inputs that do not differ.
        """
        x, y = inputs.cpu().numpy(), unknowns.cpu().numpy()
        if len(x) < 2:
            raise SponError(f"{len(x)} training samples; allowed: at least 2")
        into, out = self._masses
        centre, offset = x.mean(axis=0), y.mean(axis=0)
        found = pod(x - centre, into)
        if len(found.values) == 0:
            raise SponError("the inputs of all training samples are the same; nothing to fit")
        projected = found.left.T @ (y - offset)
        ridge = self.settings["ridge"]
        if ridge is None:
            across = y - offset - found.left @ projected
            explained = (projected * (out @ projected.T).T).sum(axis=1)
            rest = float((across * (out @ across.T).T).sum())
            shift = ridge_parameter(found.values, explained, rest, len(x))
        else:
            shift = ridge * found.values[0] ** 2
        responses = (found.values / (found.values**2 + shift))[:, None] * projected
        for name, array in (
            ("centre", centre),
            ("offset", offset),
            ("directions", into @ found.modes),
            ("responses", responses),
        ):
            setattr(self, name, torch.as_tensor(array).to(self.centre.device))

    def forward(self, encoded: Encoded) -> Tensor:
        """Map standardised inputs to unknowns, (batch, columns of Z) float64."""
        return self.offset + (encoded.inputs - self.centre) @ self.directions @ self.responses

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # the rank is that of the samples; torch compares shapes with those of the buffers
        for name in ("directions", "responses"):
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_zeros(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
