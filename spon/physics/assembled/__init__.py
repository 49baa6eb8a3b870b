"""UFL residuals assembled by DOLFINx and PETSc, under MPI."""

from spon._compat import require_dolfinx

require_dolfinx()
