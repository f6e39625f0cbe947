"""Configs of the classical baselines."""
