"""Ancestral sampling: one variable after another, each given those before it.

Knows no model: a step function turns a cache and the previous value into the next logits, a draw function turns logits
into a value. Values that are already known are forced, which makes the same loop serve sampling and completion.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, Num, PyTree

Step = Callable[[PyTree, Array, Array], tuple[PyTree, Array]]
Draw = Callable[[Key[Array, ""], Array, Array], Array]


def ancestral(step: Step, draw: Draw, cache: Any, key: Key[Array, ""], forced: Num[Array, "steps batch *value"],
              known: Bool[Array | np.ndarray, " steps"]) -> Num[Array, "steps batch *value"]:
  """Draw a sequence of values, keeping those that are known.

  Args:
    step: `(cache, previous, index) -> (cache, logits)`; at index 0 the previous value is zeros and means nothing.
    draw: `(key, logits, index) -> value`.
    cache: the state of `step` before the first value.
    key: folded with the index at each step, so a value's randomness does not depend on how many came before it.
    forced: the values where `known`; anything elsewhere.
    known: which steps take their forced value instead of a draw.

  Returns:
    The values [steps, batch, *value], in the order of the steps.
  """

  def body(state, inputs):
    cache, previous = state
    index, given, keep = inputs
    cache, logits = step(cache, previous, index)
    value = jnp.where(keep, given, draw(jax.random.fold_in(key, index), logits, index).astype(given.dtype))
    return (cache, value), value

  steps = jnp.arange(forced.shape[0])
  _, values = jax.lax.scan(body, (cache, jnp.zeros_like(forced[0])), (steps, forced, jnp.asarray(known)))
  return values
