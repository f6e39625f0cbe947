"""A multi-layer perceptron of x_t, its time and class: the denoising network of vectors."""

import math

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from gdm import checks
from gdm.diffusion.networks.layers import DenoisingNetwork, drop
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage


class DenoisingMLP(DenoisingNetwork):
  """x [batch, *event] and times [batch] -> [batch, *event] with a last axis of size `outputs`, at first zero.

  Each hidden layer takes the time and the class, and adds to the one below where both have the same size. See
  `DenoisingNetwork` for the other attributes.

  Attributes:
    hidden: sizes of the hidden layers; one at least.
  """

  hidden: tuple[int, ...] = (128, 128, 128)

  def __post_init__(self) -> None:
    checks.sizes("network.hidden", self.hidden, least=2)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch *event"], time: Float[Array, " batch"],
               context: Float[Array, "batch classes"] | None = None) -> Float[Array, "batch *outputs"]:
    width = self.hidden[0] - self.hidden[0] % 2
    condition = self.condition(time, context, width, width)
    h = x.reshape(x.shape[0], -1)
    for layer, size in enumerate(self.hidden):
      sums = Linear(size, h.shape[-1] ** -0.5, name=f"hidden_{layer}")(h)
      sums = sums + Linear(size, width**-0.5, use_bias=True, name=f"embedding_{layer}")(condition)
      made = drop(self, jax.nn.silu(sums), self.dropout)
      h = end_of_stage(h + made if layer and h.shape == made.shape else made)
    shape = (*x.shape[1:-1], self.outputs)
    return Linear(math.prod(shape), 0.0, use_bias=True, name="last")(h).reshape(x.shape[0], *shape)
