"""Surrogates of representative volume elements. Nothing lives here yet."""
