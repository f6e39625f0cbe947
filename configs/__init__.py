"""Experiment configs: configs/<family>/<model>.py:<dataset>."""
