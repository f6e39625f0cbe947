"""Diffusion models: noise paths, predictions, weightings, times, samplers and likelihoods."""
