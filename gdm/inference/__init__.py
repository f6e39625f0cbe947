"""Samplers and solvers that know no model."""
