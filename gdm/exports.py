"""Names of a package that are imported when they are asked for, so that importing the package costs nothing."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def on_demand(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
  """Return the `__getattr__` and `__dir__` of a package.

  Args:
    package: its name.
    names: public name -> the module below the package that has it.

  Example: `__getattr__, __dir__ = on_demand(__name__, {"fit": "loop"})`.
  """
  def get(name: str) -> Any:
    if name not in names:
      raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

  return get, lambda: sorted(names)
