"""Signs that adversarial training went wrong: a critic that dominates, a generator that collapsed, scores that grow."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

LEAST_DIVERSITY = 0.2
MOST_ACCURACY = 0.995
MOST_GRADIENT = 1e4


def accuracy(real: Float[Array, " batch"], fake: Float[Array, " batch"]) -> Float[Array, " batch"]:
  """Return 1 for each pair in which the critic scores the real example higher, 1/2 for a tie, else 0.

  Its mean is 1/2 where the critic cannot tell them apart; it depends on no threshold, so it means the same for every
  loss.
  """
  return 0.5 * (1.0 + jnp.sign(real - fake))


def diversity(real: Float[Array, "batch *event"], fake: Float[Array, "batch *event"]) -> Float[Array, ""]:
  """Return the mean distance of neighbours in the batch of made examples, over that of real ones.

  About 1 where they vary as the data does, 0 where all are the same.
  """
  def spread(x: Float[Array, "batch *event"]) -> Float[Array, ""]:
    flat = x.reshape(x.shape[0], -1)
    return jnp.mean(jnp.sqrt(jnp.sum(jnp.square(flat - jnp.roll(flat, 1, axis=0)), axis=1)))

  return spread(fake) / jnp.maximum(spread(real), jnp.finfo(jnp.float32).tiny)


def verdict(metrics: Mapping[str, float]) -> str:
  """Return what the last training metrics show, in words; "" where they show nothing wrong."""
  found = []
  if (value := metrics.get("critic/diversity", 1.0)) < LEAST_DIVERSITY:
    found.append(f"the generator collapsed: its samples differ from each other by {value:.2g} of what examples do")
  if (value := metrics.get("critic/accuracy", 0.5)) > MOST_ACCURACY:
    found.append(f"the critic dominates: it scores the real example higher in {value:.1%} of pairs, so that the "
                 "generator learns little")
  gradients = {group: metrics.get(f"{group}/grad_norm", 0.0) for group in ("generator", "critic")}
  for group, value in gradients.items():
    if value > MOST_GRADIENT:
      found.append(f"the {group} diverges: the norm of its gradient is {value:.3g}")
  return "; ".join(found)
