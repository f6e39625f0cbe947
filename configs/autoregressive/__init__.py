"""Configs of the autoregressive models."""
