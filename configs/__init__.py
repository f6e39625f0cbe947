"""Experiment configs: configs/<family>/<model>.py:<dataset>.

Each file has `get_config(variant)`, which returns the config of a variant; a ConfigError names the known ones.
"""
