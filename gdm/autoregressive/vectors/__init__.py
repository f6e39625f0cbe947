"""Autoregressive models of vectors, in any order of their dimensions."""
