"""Processors: maps between nodal features, one class per file."""
