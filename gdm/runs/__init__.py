"""From a config to a trained model and back: defaults, registry, settings, workdir, run, loading, sampling."""
