"""The version of this package, by the name under which it is installed: `gdm` on the package index is another's."""

from importlib import metadata

DISTRIBUTION = "gdm-jax"
UNKNOWN = "0+unknown"  # of a source tree that is not installed


def version() -> str:
  """Return the installed version."""
  try:
    return metadata.version(DISTRIBUTION)
  except metadata.PackageNotFoundError:
    return UNKNOWN
