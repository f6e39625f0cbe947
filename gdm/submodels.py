"""Models that are made of models: the data that a part models, and prefixes of its parameters and carry."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gdm.dataspec import DataSpec
from gdm.model import Carry, Params, PyTree

# (the whole's other fields, the spec of the whole's data) -> the spec of the part's data
SpecOf = Callable[[Mapping[str, Any], DataSpec], DataSpec]
OF_SPEC = "of_spec"


def of_spec(spec: SpecOf, default: Any = dataclasses.MISSING) -> Any:
  """Return a dataclass field for a model of other data than the whole's, a prior of latents say.

  Args:
    spec: the spec of the part's data, from the whole's other fields and its spec.
    default: of the field.

  Example:
    prior: Model | None = of_spec(lambda fields, spec: DataSpec((fields["latent_dims"],), None), default=None)
  """
  return dataclasses.field(default=default, metadata={OF_SPEC: spec})


def params_of(params: Params, prefix: str) -> Params:
  """Return the groups of the part whose groups' names begin with `prefix`, under their own names."""
  return {group.removeprefix(prefix): tree for group, tree in params.items() if group.startswith(prefix)}


def named_params(own: Params, prefix: str) -> dict[str, PyTree]:
  """Return a part's groups as the whole names them."""
  return {prefix + group: tree for group, tree in own.items()}


def carry_of(carry: Carry, name: str) -> Carry:
  """Return the entries of the part `name`, under their own names."""
  return {entry: parts[name] for entry, parts in carry.items() if name in parts}


def merged_carry(carry: Carry, name: str, own: Carry) -> dict[str, PyTree]:
  """Return the carry with the part `name` replaced; entries keep their names, which say how they are sharded."""
  parts: dict[str, PyTree] = dict(carry)
  for entry, tree in own.items():
    parts[entry] = {**parts.get(entry, {}), name: tree}
  return parts
