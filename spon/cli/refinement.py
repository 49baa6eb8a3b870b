"""Refinement of predictions by their own equations, as the verbs use it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spon.errors import SponError

__all__ = ["REFINEMENTS", "calibration_file", "find", "refined"]

REFINEMENTS = {
    "galerkin": "least energy in the span of the prediction and one multigrid cycle of its residual",
    "last-layer": "least energy over the last layer of the network",
}

Floats = npt.NDArray[np.float64]


def calibration_file(name: str) -> str:
    """Return the name of the file with the calibration of fields that were refined so."""
    return f"certificate-{name}.json"


def find(name: str, model: Any, physics: Any, device: Any) -> Any:
    """Return a refinement of the model's predictions.

    Args:
        name: one of `REFINEMENTS`.
        model: on its mesh.
        physics: on that; None where they are not known.
        device: of torch.

    Raises:
        SponError: no equations, or such as have no multigrid cycles.
    """
    from spon.physics.kernels.last_layer import LastLayerRefinement
    from spon.physics.kernels.refinement import GalerkinRefinement
    from spon.physics.kernels.solver import MultigridSolver

    if physics is None:
        raise SponError("the model does not carry its equations (or spon has no kernel for them)")
    solver = MultigridSolver(model.discretisation, physics, device=device)
    return GalerkinRefinement(solver) if name == "galerkin" else LastLayerRefinement(model, solver)


def refined(refinement: Any, predicted: Floats, inputs: Floats, shifts: Floats | None) -> Floats:
    """Return refined fields, (samples, DoFs).

    Raises:
        SponError: as `Refinement`.
    """
    import torch

    device = refinement.solver.shift.device
    arrays = [predicted, inputs] if shifts is None else [predicted, inputs, shifts]
    found = refinement(*(torch.as_tensor(a, dtype=torch.float64, device=device) for a in arrays))
    out: Floats = found.cpu().numpy()
    return out
