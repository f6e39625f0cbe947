"""Configs of the latent-variable models."""
