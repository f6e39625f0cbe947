"""Settings that follow the number of training examples: the config's sections `small` and `large`.

Regularization that a table of a thousand rows needs keeps one of twenty thousand from being learned. So a config may
say {"large": {"rows": 8000, "model": {"dropout": 0.1}}}: in place of its own settings, for training splits of at least
so many rows; `small` is for those of fewer than its rows. What the command line sets holds whatever the size.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_collections

from gdm.errors import ConfigError
from gdm.runs.settings import flatten_fields, replaced

# Section -> whether it is for a training split of `num` examples, given its "rows".
SIZES: Mapping[str, Callable[[int, int], bool]] = {
    "small": lambda num, rows: num < rows,
    "large": lambda num, rows: num >= rows,
}
SECTIONS = ("model", "optimizer", "training")  # whose fields may follow the size


def keep_settings(config: ml_collections.ConfigDict, fields: Iterable[str]) -> ml_collections.ConfigDict:
  """Return the config with these dotted fields taken out of `small` and `large`, so that they hold for every size."""
  result = config.copy_and_resolve_references()
  for section in SIZES:
    for field in fields:
      *parents, name = field.split(".")
      place: Any = result[section]
      for parent in parents:
        place = place.get(parent, {}) if isinstance(place, ml_collections.ConfigDict) else {}
      if name in place:
        with place.unlocked():
          del place[name]
  return result


def sized(config: ml_collections.ConfigDict, num_examples: int) -> ml_collections.ConfigDict:
  """Return the config with the settings of `small` and `large` for a training split of `num_examples`.

  The sections themselves are left empty. Raise ConfigError for a section without "rows", or with a field that the
  config lacks or that is in none of `SECTIONS`.
  """
  result, fields = config.copy_and_resolve_references(), flatten_fields(config.to_dict())
  for section, applies in SIZES.items():
    rules = config[section].to_dict()
    if not rules:
      continue
    rows = rules.pop("rows", None)
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
      raise ConfigError(f"{section}.rows is {rows!r}; it must be the number of training examples that divides sizes, "
                        "at least 1.")
    for name in flatten_fields(rules):
      if name not in fields or name.partition(".")[0] not in SECTIONS:
        raise ConfigError(f"{section}.{name} names no field of the config's sections {', '.join(SECTIONS)}.")
    of_size = replaced(result, flatten_fields(rules), section)  # for its errors, also where the size is another
    if applies(num_examples, rows):
      result = of_size
  for section in SIZES:
    result[section] = {}
  return result
