"""Batched residual kernels and their multigrid solvers in torch; no DOLFINx here."""
