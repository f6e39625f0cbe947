"""Programs that train the same model, each in a process of its own, and time it on request."""
