"""Fields of a network that follow from the data, which a model sets and no config."""

import dataclasses
from typing import Any


def from_data(default: Any) -> Any:
  """Return a dataclass field that a model fills in by `network.clone(...)`: the event, levels, classes.

  Example:
    class Network(nn.Module):
      width: int = 64
      levels: int = from_data(0)
  """
  return dataclasses.field(default=default, metadata={"from_data": True})


def is_from_data(field: dataclasses.Field) -> bool:
  """Return whether a network's field was declared by `from_data`."""
  return bool(field.metadata.get("from_data"))
