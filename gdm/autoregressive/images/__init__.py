"""Autoregressive models of images: one model, and networks for it."""
