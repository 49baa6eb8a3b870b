"""Random fields, data sets and their generation."""
