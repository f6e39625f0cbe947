"""The benchmark: one file per section, each a function from settings to rows; see `sections.py`."""
