"""What models that are made of another one take from it unchanged."""

from typing import Any

from jaxtyping import Array, Key

from gdm.dataspec import DataSpec
from gdm.model import Batch, Carry, Objective, Params


class OfModel:
  """A model with the data, the objectives and the parameters of `model`."""

  model: Any

  @property
  def spec(self) -> DataSpec:
    return self.model.spec

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return self.model.objectives

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    return self.model.init(key, batch)
