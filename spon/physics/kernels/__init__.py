"""Batched residual kernels in torch; no DOLFINx here. Nothing lives here yet."""
