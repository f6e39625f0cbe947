"""Configs of discrete diffusion models."""
