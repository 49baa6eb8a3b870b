"""Training: torch alone, data-parallel over ranks."""
