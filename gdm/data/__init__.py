"""Sources, transforms, the loader."""
