"""Learn PDE solution operators on finite-element spaces.

The public names load on first use, so that `import spon` needs neither DOLFINx nor torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Constraint": "spon.constraint",
    "Dofs": "spon.fem.encoding",
    "Moments": "spon.fem.encoding",
    "Parameters": "spon.fem.encoding",
    "Projection": "spon.fem.encoding",
    "Sensors": "spon.fem.encoding",
    "Trace": "spon.fem.encoding",
    "Dataset": "spon.data.dataset",
    "Discretisation": "spon.discretisation",
    "Hierarchy": "spon.fem.hierarchy",
    "MaternField": "spon.data.fields",
    "MissingDependencyError": "spon.errors",
    "Multigrid": "spon.nn.processors.multigrid",
    "OperatorNetwork": "spon.nn.operator",
    "Problem": "spon.physics.assembled.problem",
    "SponError": "spon.errors",
    "TaggedMesh": "spon.fem.mesh",
    "Training": "spon.training.trainer",
    "decode": "spon.fem.decode",
    "dirichlet": "spon.fem.boundary",
    "periodic": "spon.fem.periodic",
    "slip": "spon.fem.boundary",
    "discretise": "spon.fem.discretise",
    "divergence_free": "spon.fem.divergence",
    "MeshArrays": "spon.fem.arrays",
    "evaluate": "spon.evaluation",
    "find_mesh": "spon.resources",
    "find_problem": "spon.resources",
    "from_dolfinx": "spon.fem.live",
    "generate": "spon.data.generate",
    "lagrange": "spon.fem.assembly",
    "load_model": "spon.training.checkpoint",
    "load_problem": "spon.resources",
    "point_values": "spon.fem.decode",
    "predict": "spon.fem.decode",
    "read_mesh": "spon.fem.mesh",
    "save_model": "spon.training.checkpoint",
    "train": "spon.training.trainer",
    "write": "spon.fem.output",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'spon' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
