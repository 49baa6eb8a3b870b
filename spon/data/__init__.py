"""Random fields, data sets, their generation, import and pictures."""
