"""Words of a caption as vectors, which a denoising network attends to."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class FoundWords(NamedTuple):
  """The words of captions.

  Attributes:
    vectors: of each place of a caption; those where there is no word are of no account.
    is_word: whether there is a word at a place.
    mean: mean of the vectors of a caption's words; zeros where it has none.
  """

  vectors: Float[Array, "batch words width"]
  is_word: Bool[Array, "batch words"]
  mean: Float[Array, "batch width"]


class Words(nn.Module):
  """Tokens [batch, words], 0 for none -> their vectors, an embedding of the word plus one of its place.

  Attributes:
    width: of a vector.
    steps: places of a caption.
    levels: values of a token.
    dropout: share of the words that is withheld, where an rng named "dropout" is given.
  """

  width: int
  steps: int
  levels: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, tokens: Float[Array, "batch words"] | None, batch: int) -> FoundWords:
    """Return the words; None is no caption, of so many examples."""
    numbers = jnp.zeros((batch, self.steps), jnp.int32) if tokens is None else tokens.astype(jnp.int32)
    is_word = numbers > 0
    if self.dropout and self.has_rng("dropout"):
      is_word &= jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.dropout, numbers.shape)
    of_word = self.param("words", jax.nn.initializers.normal(1.0), (self.levels, self.width))
    of_place = self.param("places", jax.nn.initializers.normal(0.1), (self.steps, self.width))
    vectors = (of_word[numbers] + of_place) * is_word[..., None]
    count = jnp.maximum(jnp.sum(is_word, axis=1, keepdims=True), 1)
    return FoundWords(vectors, is_word, jnp.sum(vectors, axis=1) / count)


def split_prefix(context: Float[Array, "batch width"] | None, steps: int
                 ) -> tuple[Float[Array, "batch steps"] | None, Float[Array, "batch _"] | None]:
  """Return the tokens that a context begins with, and what is left of it; None where there is nothing."""
  if context is None or not steps:
    return None, context
  rest = context[:, steps:]
  return context[:, :steps], rest if rest.shape[1] else None
