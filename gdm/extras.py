"""Packages that a part of the library needs and the rest does without: extras of the installation."""

import importlib
from typing import Any

from gdm.errors import ConfigError


def load_extra(module: str, extra: str, what: str) -> Any:
  """Return a module of an optional package, imported when asked for.

  Args:
    module: its name.
    extra: the extra of this package that installs it.
    what: what needs it, as the subject of the message.

  Raise ConfigError with the command that installs it where it is missing.
  """
  try:
    return importlib.import_module(module)
  except ImportError as error:
    package = module.partition(".")[0]
    raise ConfigError(f"{what} needs the package {package}, which cannot be imported ({error}); install the extra "
                      f"{extra!r}: pip install '.[{extra}]'.") from error
