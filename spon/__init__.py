"""Learn PDE solution operators on finite-element spaces.

The public names load on first use, so that `import spon` needs neither DOLFINx nor torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "BoxField": "spon.data.karhunen_loeve",
    "CanonicalOrder": "spon.fem.canonical",
    "Certificate": "spon.physics.kernels.certificate",
    "Certified": "spon.physics.kernels.certificate",
    "ConstrainedSolver": "spon.fem.solver",
    "Constraint": "spon.constraint",
    "ConvexPotential": "spon.multiscale.convex_potential",
    "Correction": "spon.physics.assembled.correction",
    "Dataset": "spon.data.dataset",
    "DatasetCollection": "spon.data.collection",
    "Deviatoric": "spon.multiscale.materials",
    "Discretisation": "spon.discretisation",
    "DivergenceFree": "spon.projection",
    "Dofs": "spon.fem.encoding",
    "DualNorm": "spon.physics.kernels.dual_norm",
    "Effectivity": "spon.physics.kernels.certificate",
    "EquiNO": "spon.multiscale.equino",
    "FEModel": "spon.multiscale.fe_model",
    "GalerkinRefinement": "spon.physics.kernels.refinement",
    "GaussianProcess": "spon.data.gaussian_process",
    "Generation": "spon.data.generation",
    "Graph": "spon.nn.processors.graph",
    "Hierarchy": "spon.fem.hierarchy",
    "KernelCertificate": "spon.physics.kernels.kernel_certificate",
    "LastLayerRefinement": "spon.physics.kernels.last_layer",
    "LearnedCorrection": "spon.nn.processors.learned_correction",
    "Linear": "spon.nn.processors.linear",
    "LinearElastic": "spon.multiscale.materials",
    "LowRank": "spon.nn.processors.low_rank",
    "Material": "spon.multiscale.materials",
    "MaterialModel": "spon.multiscale.micromodel",
    "MaternField": "spon.data.fields",
    "MeshArrays": "spon.fem.arrays",
    "MissingDependencyError": "spon.errors",
    "Moments": "spon.fem.encoding",
    "Multigrid": "spon.nn.processors.multigrid",
    "MultigridSolver": "spon.physics.kernels.solver",
    "NeoHookean": "spon.multiscale.finite_strain",
    "NeuralGalerkin": "spon.multiscale.neural_galerkin",
    "NewtonSolver": "spon.fem.newton",
    "OperatorNetwork": "spon.nn.operator",
    "Parameters": "spon.fem.sensors",
    "Physics": "spon.physics.kernels.physics",
    "Preconditioner": "spon.physics.assembled.preconditioner",
    "Problem": "spon.physics.assembled.problem",
    "Projection": "spon.fem.encoding",
    "RVE": "spon.multiscale.rve",
    "ReducedRVE": "spon.multiscale.reduced",
    "Resampling": "spon.fem.resolution",
    "Residual": "spon.physics.assembled.residual",
    "Response": "spon.multiscale.micromodel",
    "Sensors": "spon.fem.sensors",
    "SliceAttention": "spon.nn.processors.slice_attention",
    "Snapshots": "spon.multiscale.snapshots",
    "SponError": "spon.errors",
    "Surrogate": "spon.multiscale.surrogate",
    "SurrogateErrors": "spon.multiscale.evaluation",
    "TaggedMesh": "spon.fem.mesh",
    "Trace": "spon.fem.trace",
    "Trainer": "spon.training.trainer",
    "Training": "spon.training.settings",
    "TunedSolver": "spon.fem.tuned",
    "TwoScaleProblem": "spon.multiscale.fe2",
    "TwoScaleSolution": "spon.multiscale.two_scale",
    "VariationalDeepONet": "spon.multiscale.vpionet",
    "WithFallback": "spon.multiscale.fallback",
    "ZeroMean": "spon.projection",
    "certificate": "spon.physics.assembled.certify",
    "decode": "spon.fem.decode",
    "default_processor": "spon.training.defaults",
    "dirichlet": "spon.fem.boundary",
    "discretise": "spon.fem.discretise",
    "divergence_free": "spon.fem.divergence",
    "divergence_free_projection": "spon.fem.projection",
    "evaluate": "spon.evaluation",
    "evaluate_surrogate": "spon.multiscale.evaluation",
    "fibre_rve": "spon.multiscale.fibres",
    "find_cubature": "spon.multiscale.cubature",
    "find_mesh": "spon.resources",
    "find_modes": "spon.multiscale.modes",
    "find_problem": "spon.resources",
    "from_dolfinx": "spon.fem.live",
    "generate": "spon.data.generate",
    "generate_file": "spon.data.generation",
    "import_arrays": "spon.data.imports",
    "import_grid": "spon.data.grids",
    "lagrange": "spon.fem.assembly",
    "latin_hypercube": "spon.multiscale.loads",
    "learn_amplitudes": "spon.multiscale.neural_galerkin",
    "learn_potential": "spon.multiscale.convex_potential",
    "load_model": "spon.training.checkpoint",
    "load_physics": "spon.training.checkpoint",
    "load_problem": "spon.resources",
    "load_surrogate": "spon.multiscale.surrogate",
    "make_kernel": "spon.physics.kernels.make",
    "on_sphere": "spon.multiscale.loads",
    "periodic": "spon.fem.periodic",
    "point_values": "spon.fem.decode",
    "predict": "spon.fem.decode",
    "proportional_paths": "spon.multiscale.loads",
    "read_laws": "spon.multiscale.laws",
    "read_mesh": "spon.fem.mesh",
    "read_model": "spon.training.checkpoint",
    "read_rve": "spon.multiscale.rve_reader",
    "reduce_rve": "spon.multiscale.reduced",
    "refine": "spon.fem.refinement",
    "save_model": "spon.training.checkpoint",
    "slip": "spon.fem.boundary",
    "solve": "spon.fem.linear",
    "solve_cases": "spon.multiscale.fe_model",
    "take_snapshots": "spon.multiscale.snapshots",
    "threshold": "spon.data.karhunen_loeve",
    "train": "spon.training.trainer",
    "write": "spon.fem.output",
    "write_local_fields": "spon.multiscale.rve_output",
    "zero_mean": "spon.fem.projection",
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
