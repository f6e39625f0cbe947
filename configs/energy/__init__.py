"""Configs of the energy-based models."""
