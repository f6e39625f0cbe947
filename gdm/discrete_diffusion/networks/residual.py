"""Residual convolutions at the image's own resolution, with attention over all pixels between them."""

import flax.linen as nn
import jax

from gdm import checks
from gdm.discrete_diffusion.networks.network import LogitsNetwork, conditioning, drop, features
from gdm.errors import SpecError
from gdm.networks.attention import FullAttention
from gdm.networks.convolution import Convolution
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage


class Residual(LogitsNetwork):
  """Images alone; see `LogitsNetwork` for the other attributes.

  A vector of each pixel's place is added to its inputs, so that the network knows where it is.

  Example:
    model = ardm(DataSpec((28, 28, 1), 256), network=Residual(width=32, num_blocks=2))

  Attributes:
    width: channels inside.
    num_blocks: residual blocks of two convolutions.
    num_heads: heads of the attention after each block; they divide the width. 0 is no attention.
  """

  width: int = 64
  num_blocks: int = 4
  num_heads: int = 4

  def __post_init__(self) -> None:
    checks.at_least("network.width", self.width, 1)
    checks.at_least("network.num_blocks", self.num_blocks, 1)
    checks.at_least("network.num_heads", self.num_heads, 0)
    if self.num_heads:
      checks.multiple_of("network.width", self.width, self.num_heads, "num_heads")
    super().__post_init__()

  @nn.compact
  def __call__(self, x, time=None, context=None):
    if len(self.event) != 3:
      raise SpecError(f"the network 'residual' takes images (height, width, channels), but spec.event is {self.event}; "
                      "choose 'mlp' or 'transformer'.")
    rows, columns, channels = self.event
    inputs = features(x.reshape(x.shape[0], -1, channels), self.levels).reshape(x.shape[0], rows, columns, -1)
    h = Linear(self.width, channels**-0.5, use_bias=True, name="inputs")(inputs)
    h = h + self.param("places", jax.nn.initializers.normal(0.5), (rows, columns, self.width))
    h = h + conditioning(self.width, time, context)[:, None, None]
    for block in range(self.num_blocks):
      r = jax.nn.silu(nn.LayerNorm(epsilon=1e-5, name=f"first_norm_{block}")(h))
      r = Convolution(self.width, name=f"first_{block}")(r)
      r = drop(self, jax.nn.silu(nn.LayerNorm(epsilon=1e-5, name=f"second_norm_{block}")(r)), self.dropout)
      h = end_of_stage(h + Convolution(self.width, scale=self.num_blocks**-0.5, name=f"second_{block}")(r))
      if self.num_heads:
        flat = nn.LayerNorm(epsilon=1e-5, name=f"attention_norm_{block}")(h).reshape(x.shape[0], -1, self.width)
        out_stddev = (self.num_blocks * self.width) ** -0.5
        added = FullAttention(self.num_heads, out_stddev, name=f"attention_{block}")(flat)
        h = end_of_stage(h + drop(self, added, self.dropout).reshape(h.shape))
    h = jax.nn.silu(nn.LayerNorm(epsilon=1e-5, name="last_norm")(h))
    logits = Linear(channels * self.levels, 0.02, use_bias=True, name="last")(h)
    return logits.reshape(*x.shape, self.levels)
