"""Denoising networks: (features of x_t [batch, *event], times [batch], context or None) -> [batch, *outputs]."""
