"""Surrogates of representative volume elements, and the two-scale problems that they serve."""
