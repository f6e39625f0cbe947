"""Encoders and decoders of latent-variable models."""
