"""Autoregressive models: exact log-likelihood by the chain rule."""
