"""Processors: maps from encoded inputs to latent fields or unknowns, one class per file."""

from __future__ import annotations

import importlib

from spon.errors import SponError
from spon.nn.processors.base import Encoded, Processor

__all__ = ["PROCESSORS", "Encoded", "Processor", "find_processor"]

# name in configurations and checkpoints → module; a module loads when its processor is asked for
PROCESSORS = {
    "Graph": "spon.nn.processors.graph",
    "LearnedCorrection": "spon.nn.processors.learned_correction",
    "Linear": "spon.nn.processors.linear",
    "LowRank": "spon.nn.processors.low_rank",
    "Multigrid": "spon.nn.processors.multigrid",
    "SliceAttention": "spon.nn.processors.slice_attention",
}


def find_processor(name: str) -> type[Processor]:
    """Return the class of a processor that comes with spon.

    Raises:
        SponError: an unknown name.
    """
    if name not in PROCESSORS:
        raise SponError(f"processor '{name}'; allowed: {', '.join(PROCESSORS)}")
    found: type[Processor] = getattr(importlib.import_module(PROCESSORS[name]), name)
    return found
