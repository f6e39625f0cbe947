"""Where the examples of the model's own side of the gradient come from.

The gradient of log p is that of -E at the data minus its mean under the model; the latter needs draws, and each way
here makes them by a few steps of a kernel that leaves the model as it is.
"""

import dataclasses
from collections.abc import Callable, Mapping

from jaxtyping import Array, Float, Num

from gdm.errors import ConfigError, nearest
from gdm.model import Carry

Walk = Callable[[Num[Array, "*lead dims"]], Num[Array, "*lead dims"]]


@dataclasses.dataclass(frozen=True)
class Negatives:
  """A way to get negative examples.

  Attributes:
    begin: (a function that makes chains [shards, n, *event]) -> the carry to begin with.
    draw: (walk, carry, x [batch, dims]) -> negative examples [*lead, dims], and the carry of the next step.
  """

  begin: Callable[[Callable[[], Array]], Carry]
  draw: Callable[[Walk, Carry, Float[Array, "batch dims"]], tuple[Float[Array, "*lead dims"], Carry]]


def _from_data(walk: Walk, carry: Carry, x: Float[Array, "batch dims"]) -> tuple[Float[Array, "*lead dims"], Carry]:
  return walk(x), carry


def _from_chains(walk: Walk, carry: Carry, x: Float[Array, "batch dims"]) -> tuple[Float[Array, "*lead dims"], Carry]:
  chains = carry["chains"]
  moved = walk(chains.reshape(*chains.shape[:2], -1).astype(x.dtype))
  return moved, {**carry, "chains": moved.reshape(chains.shape).astype(chains.dtype)}


NEGATIVES: Mapping[str, Negatives] = {
    # Contrastive divergence (Hinton, 2002): chains start at the data.
    "cd": Negatives(lambda make_chains: {}, _from_data),
    # Persistent contrastive divergence (Tieleman, 2008): chains go on where the last step left them.
    "pcd": Negatives(lambda make_chains: {"chains": make_chains()}, _from_chains),
}


def negatives(name: str) -> Negatives:
  """The way of that name. Raises a ConfigError naming the nearest known one."""
  if name not in NEGATIVES:
    raise ConfigError(f"negatives is {name!r}; {nearest(name, NEGATIVES)}")
  return NEGATIVES[name]
