"""Token embeddings, and logits tied to them."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int


class Embedding(nn.Module):
  """Tokens in [0, num] -> vectors: one row per level, and one more for `start`, the token before the first.

  With classes a token carries the label of its sequence, as token + (num + 1) * label, and the label's vector is added:
  every position knows it, however long the sequence (the global conditioning of arXiv:1609.03499, section 2.5).

  Attributes:
    num: levels.
    width: size of a vector.
    stddev: vectors start normal with this standard deviation.
    classes: number of labels; 0 for none.
  """

  num: int
  width: int
  stddev: float = 0.02
  classes: int = 0

  def setup(self) -> None:
    self.table = self.param("table", jax.nn.initializers.normal(self.stddev), (self.num + 1, self.width))
    if self.classes:
      self.labels = self.param("labels", jax.nn.initializers.normal(self.stddev), (self.classes, self.width))

  def __call__(self, tokens: Int[Array, "*shape"]) -> Float[Array, "*shape width"]:
    if not self.classes:
      return self.table[tokens]
    return self.table[tokens % (self.num + 1)] + self.labels[tokens // (self.num + 1)]

  def logits(self, x: Float[Array, "*shape width"]) -> Float[Array, "*shape levels"]:
    """Return products of x with each level's vector (Press and Wolf, arXiv:1608.05859)."""
    return (x.reshape(-1, self.width) @ self.table[:self.num].T).reshape(*x.shape[:-1], self.num)
