"""Configs of diffusion models."""
