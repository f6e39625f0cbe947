"""Samplers from noise back to data: pure functions of a denoising function and a path, which know no model."""
