"""Distributions over outputs of networks: log_prob and sample."""
