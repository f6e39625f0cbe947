"""Marks where a network's stages end, for whoever trains it.

What is marked costs nothing. With `training.remat="stages"` only the marked activations are kept for the backward pass,
and with parameters split over devices the marked activations stay with their examples.
"""

from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from gdm.mesh import constrain_batch

STAGE = "stage"


def end_of_stage(x: Float[Array, "batch *shape"]) -> Float[Array, "batch *shape"]:
  """Return x, the output of a residual block, or of a hidden layer where there are no larger stages."""
  return checkpoint_name(constrain_batch(x), STAGE)
