"""The `spon` command, one module per verb."""
