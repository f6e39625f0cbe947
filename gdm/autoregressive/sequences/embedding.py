"""Token embeddings, and logits tied to them."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_OWN_SHARE = 0.1  # of a level's vector at first, where neighbours are alike: what is the level's own


class Embedding(nn.Module):
  """Tokens in [0, num] -> vectors: one row per level, and one more for `start`, the token before the first.

  With classes a token carries the label of its sequence, as token + (num + 1) * label, and the label's vector is added:
  every position knows it, however long the sequence (the global conditioning of arXiv:1609.03499, section 2.5).

  Attributes:
    num: levels.
    width: size of a vector.
    stddev: vectors start normal with this standard deviation.
    classes: number of labels; 0 for none.
    smooth: vectors of levels have this many cosines of the level in common, by weights that are learned, so that those
      of neighbouring levels are alike at first, as they are of sound; 0 for none.
  """

  num: int
  width: int
  stddev: float = 0.02
  classes: int = 0
  smooth: int = 0

  def setup(self) -> None:
    own = self.stddev * (_OWN_SHARE if self.smooth else 1.0)
    self.table = self.param("table", jax.nn.initializers.normal(own), (self.num + 1, self.width))
    if self.smooth:
      of_waves = jax.nn.initializers.normal(self.stddev * math.sqrt(2.0 / self.smooth))
      self.of_waves = self.param("of_waves", of_waves, (self.smooth, self.width))
    if self.classes:
      self.labels = self.param("labels", jax.nn.initializers.normal(self.stddev), (self.classes, self.width))

  def rows(self) -> Float[Array, "rows width"]:
    """Return the vector of each level, and of `start`."""
    if not self.smooth:
      return self.table
    return self.table + jnp.pad(jnp.asarray(waves(self.num, self.smooth)) @ self.of_waves, ((0, 1), (0, 0)))

  def __call__(self, tokens: Int[Array, "*shape"]) -> Float[Array, "*shape width"]:
    rows = self.rows()
    if not self.classes:
      return rows[tokens]
    return rows[tokens % (self.num + 1)] + self.labels[tokens // (self.num + 1)]

  def logits(self, x: Float[Array, "*shape width"]) -> Float[Array, "*shape levels"]:
    """Return products of x with each level's vector (Press and Wolf, arXiv:1608.05859)."""
    return (x.reshape(-1, self.width) @ self.rows()[:self.num].T).reshape(*x.shape[:-1], self.num)


def waves(levels: int, num: int) -> Float[np.ndarray, "levels num"]:
  """Return cosines of levels: of half a period from the first level to the last, of two halves, and so on."""
  place = (np.arange(levels) + 0.5) / levels
  return np.cos(np.pi * place[:, None] * np.arange(1, num + 1)).astype(np.float32)
