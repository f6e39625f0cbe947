"""Runs, from a config to a trained model and back: defaults, registry, settings, workdir, loading, sampling, sweeps."""
