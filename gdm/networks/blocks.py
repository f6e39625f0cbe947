"""Marks where a network's blocks end, for whoever trains it.

What is marked costs nothing. With `training.remat="blocks"` only the marked activations are kept for the backward pass,
and with parameters split over devices the marked activations stay with their examples.
"""

from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from gdm.mesh import constrain_batch

BLOCK = "block"


def end_of_block(x: Float[Array, "batch *shape"]) -> Float[Array, "batch *shape"]:
  """`x`, the output [batch, ...] of a residual block, or of a hidden layer where there are no larger blocks."""
  return checkpoint_name(constrain_batch(x), BLOCK)
