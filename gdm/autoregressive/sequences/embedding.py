"""Token embeddings, and logits tied to them."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int


class Embedding(nn.Module):
  """Tokens in [0, num] -> vectors: one row per level, and one more for `start`, the token before the first.

  Attributes:
    num: levels.
    width: size of a vector.
    stddev: vectors start normal with this standard deviation.
  """

  num: int
  width: int
  stddev: float = 0.02

  def setup(self) -> None:
    self.table = self.param("table", jax.nn.initializers.normal(self.stddev), (self.num + 1, self.width))

  def __call__(self, tokens: Int[Array, "*shape"]) -> Float[Array, "*shape width"]:
    return self.table[tokens]

  def logits(self, x: Float[Array, "*shape width"]) -> Float[Array, "*shape levels"]:
    """Return products of x with each level's vector (Press and Wolf, arXiv:1608.05859)."""
    return (x.reshape(-1, self.width) @ self.table[:self.num].T).reshape(*x.shape[:-1], self.num)
