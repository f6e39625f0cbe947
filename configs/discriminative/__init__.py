"""Configs of the classifiers."""
