"""Write fields for ParaView, or as pictures."""

from spon.fem.output.write import write

__all__ = ["write"]
