"""Sources of data: one file per kind of source, each with a `load(request) -> Dataset`."""
