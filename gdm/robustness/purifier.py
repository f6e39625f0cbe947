"""What a purifier is: it takes an input back to where data are, before a classifier gets it."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Key, Num

from gdm.dataspec import DataSpec
from gdm.model import Carry, Params


@runtime_checkable
class Purifier(Protocol):
  """A map from examples to examples of the same event, by a model's parameters; hashable, as models are."""

  @property
  def spec(self) -> DataSpec: ...

  def purify(self, params: Params, carry: Carry, key: Key[Array, ""],
             x: Num[Array | np.ndarray, "batch *event"]) -> Num[Array, "batch *event"]:
    """Return purified examples; a key is for purifiers that draw."""
    ...
