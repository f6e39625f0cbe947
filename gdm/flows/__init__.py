"""Normalizing flows: densities by an exact change of variables."""
