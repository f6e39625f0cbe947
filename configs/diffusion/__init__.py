"""Configs of the normalizing flows."""
