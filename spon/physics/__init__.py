"""The equations: residuals assembled by DOLFINx (`assembled`), batched kernels in torch (`kernels`)."""
