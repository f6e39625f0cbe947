"""Faults done to runs on purpose, and what became of the runs."""
