"""Models that are made of models: the data that a part models, and prefixes of its parameters and carry."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key

from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.model import Batch, Carry, LossOutput, Model, Objective, Params, PyTree

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


# Components side by side: component k's parameter group "g" is the whole's "k/g"; its part of a carry entry is the
# entry's "k".


def join_components(parts: Sequence[tuple[Params, Carry]]) -> tuple[Params, Carry]:
  """Return the whole's parameters and carry from those of its components, in order."""
  params, carry = {}, {}
  for index, (own_params, own_carry) in enumerate(parts):
    params |= named_params(own_params, f"{index}/")
    carry = merged_carry(carry, str(index), own_carry)
  return params, carry


def component_objectives(components: Sequence[Model]) -> tuple[Objective, ...]:
  """Return every component's objectives, component by component, each of the whole's parameters."""
  return tuple(_of_whole(index, objective) for index, component in enumerate(components)
               for objective in component.objectives)


def _of_whole(index: int, objective: Objective) -> Objective:
  def loss(params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    out = objective.loss(params_of(params, f"{index}/"), carry_of(carry, str(index)), batch, key, step)
    return LossOutput(out.loss, out.metrics, merged_carry(carry, str(index), out.carry))

  def prepare(params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Batch:
    assert objective.prepare is not None
    return objective.prepare(params_of(params, f"{index}/"), carry_of(carry, str(index)), batch, key)

  return dataclasses.replace(objective, groups=tuple(f"{index}/{group}" for group in objective.groups), loss=loss,
                             prepare=objective.prepare and prepare)


def log_weights(weights: Sequence[float], num: int) -> Float[np.ndarray, " components"]:
  """Return the logarithms of `num` components' weights, normalized; () gives all the same.

  Raises:
    SpecError: weights are not `num` positive numbers.
  """
  if not all(0.0 < weight < math.inf for weight in weights) or len(weights) not in (0, num):
    raise SpecError(f"model.weights is {tuple(weights)}; it must be () or {num} positive numbers.")
  array = np.asarray(weights or np.ones(num))
  return np.log(array / array.sum()).astype(np.float32)
