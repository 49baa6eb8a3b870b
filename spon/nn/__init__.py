"""Operator networks in torch, on CPU or GPU; no DOLFINx here."""
