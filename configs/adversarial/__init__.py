"""Configs of adversarial models."""
