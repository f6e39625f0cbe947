"""Rules that many settings obey, each with its message once: the setting, its value and what would be right."""

import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError, nearest


def at_least(name: str, value: int | float, least: int | float, note: str = "") -> None:
  """Raise ConfigError unless `value` is finite and at least `least`; `note` ends the message."""
  if not least <= value < math.inf:
    raise ConfigError(f"{name} is {value}; it must be at least {least}{_noted(note)}.")


def positive(name: str, value: int | float, note: str = "") -> None:
  """Raise ConfigError unless `value` is finite and above 0; `note` ends the message."""
  if not 0 < value < math.inf:
    raise ConfigError(f"{name} is {value}; it must be finite and above 0{_noted(note)}.")


def temperature(value: Any, zero: bool = False) -> None:
  """Raise ConfigError unless a sampling temperature is finite and above 0, or 0 where `zero` is True.

  A traced value passes, since nothing is known of it.

  Example:
    checks.temperature(0.8)
  """
  if isinstance(value, numbers.Real):
    number = float(value)
    at_least("temperature", number, 0) if zero else positive("temperature", number, "(near 0 gives the mode)")


def rate(name: str, value: int | float) -> None:
  """Raise ConfigError unless `value`, a share of what is dropped, is in [0, 1)."""
  if not 0 <= value < 1:
    raise ConfigError(f"{name} is {value}; it must be at least 0 and below 1.")


def one_of(name: str, value: Any, known: Iterable[str]) -> None:
  """Raise ConfigError, with the nearest name, unless `value` is one of the names in `known`."""
  if value not in (known := tuple(known)):
    raise ConfigError(f"{name} is {value!r}; {nearest(value, known)}")


def multiple_of(name: str, value: int, divisor: int, what: str) -> None:
  """Raise ConfigError unless `value` is a positive multiple of `divisor`, which `what` describes."""
  if value < 1 or value % divisor:
    raise ConfigError(f"{name} is {value}; it must be a positive multiple of {what}, {divisor}.")


def divides(name: str, value: int, dividend: int, what: str) -> None:
  """Raise ConfigError unless `value` is a positive divisor of `dividend`, which `what` describes."""
  if value < 1 or dividend % value:
    raise ConfigError(f"{name} is {value}; it must divide {what}, {dividend}.")


def sizes(name: str, value: Sequence[int], least: int = 1) -> None:
  """Raise ConfigError unless `value` is one or more sizes of layers, each at least `least`."""
  if not value or min(value) < least:
    raise ConfigError(f"{name} is {tuple(value)}; a network needs one or more sizes of at least {least}.")


def layers(model: object, fields: Iterable[str]) -> None:
  """Raise ConfigError unless the fields that `model` has of these are at least 1; a tuple has the sizes of layers.

  So a message names the field as the config does, and also where the data need no such network.
  """
  for name in fields:
    value = getattr(model, name, 1)
    sizes(name, value) if isinstance(value, Sequence) else at_least(name, value, 1)


def equal_sizes(name: str, value: Sequence[int], residual: bool) -> None:
  """Raise ConfigError where layers are `residual` and not all of one size."""
  if residual and len(set(value)) > 1:
    raise ConfigError(f"{name} is {tuple(value)} and residual; residual layers must all be of one size.")


def classes(spec: DataSpec, class_conditional: bool) -> None:
  """Raise SpecError where a model is class-conditional and the data has no labels."""
  if class_conditional and not spec.num_classes:
    raise SpecError("class_conditional is True, but the data has no labels (spec.num_classes is None); set it to "
                    "False, or choose data with labels.")


def has_labels(batch: Iterable[str], model: object, what: str = "is class-conditional") -> None:
  """Raise SpecError where a batch that a model needs labels of has none.

  Args:
    batch: the batch, or the names of its entries.
    model: the model, whose class is named.
    what: why labels are needed, after the model's name.
  """
  if "y" not in batch:
    raise SpecError(f"{type(model).__name__} {what}; the batch must have labels y.")


def unconditional(model: object, condition: Any) -> None:
  """Raise SpecError where a condition is given to a model that takes none."""
  if condition is not None:
    raise SpecError(f"{type(model).__name__} is not conditional; condition must be None.")


def _noted(note: str) -> str:
  return f" {note}" if note else ""
