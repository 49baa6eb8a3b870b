"""DOLFINx and MPI: a mesh in, arrays out."""

from spon._compat import require_dolfinx

require_dolfinx()
