"""Latent-variable models: autoencoders, variational autoencoders, hierarchies and codes."""
