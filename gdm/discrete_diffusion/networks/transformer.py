"""A bidirectional transformer over the positions of an example: pixels, tokens or columns.

Pre-norm blocks (arXiv:2002.04745) of attention without a mask and a two-layer network.
"""

import math

import flax.linen as nn
import jax

from gdm import checks
from gdm.discrete_diffusion.networks.network import LogitsNetwork, conditioning, drop, features
from gdm.errors import ConfigError
from gdm.networks.attention import FullAttention
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage

POSITIONS = ("learned", "rotary")
TOKENS = ("dims", "steps")
STDDEV = 0.02


class BidirectionalTransformer(LogitsNetwork):
  """Positions as tokens; the channels of a pixel share one. See `LogitsNetwork` for the other attributes.

  With tokens of steps it is as in Coconet (Huang et al., ISMIR 2017), which saw voices as channels of a time step.

  Example:
    network = BidirectionalTransformer(num_layers=2, width=64, positions_by="rotary")
    model = masked(DataSpec((128,), 65), network=network)

  Attributes:
    num_layers: blocks.
    num_heads: heads of each block; they divide the width.
    width: size of the activations.
    mlp_ratio: units of each block's two-layer network, in widths.
    tokens_of: "dims", or "steps": all values of a step along the event's first axis share a token, as voices of music.
    positions_by: "learned" vectors, added to the inputs, or "rotary", in each product of a query and a key.
  """

  num_layers: int = 4
  num_heads: int = 4
  width: int = 128
  mlp_ratio: int = 4
  tokens_of: str = "dims"
  positions_by: str = "learned"

  def __post_init__(self) -> None:
    for name in ("num_layers", "num_heads", "width", "mlp_ratio"):
      checks.at_least(f"network.{name}", getattr(self, name), 1)
    checks.multiple_of("network.width", self.width, self.num_heads, "num_heads")
    checks.one_of("network.tokens_of", self.tokens_of, TOKENS)
    checks.one_of("network.positions_by", self.positions_by, POSITIONS)
    if self.positions_by == "rotary" and self.width // self.num_heads % 2:
      raise ConfigError(f"network.width / num_heads is {self.width // self.num_heads}; rotary positions turn pairs, so "
                        "it must be even.")
    super().__post_init__()

  @nn.compact
  def __call__(self, x, time=None, context=None):
    num, channels = self.positions, self.channels
    if self.tokens_of == "steps":
      num, channels = self.event[0], math.prod(self.event[1:])
    tokens = x.reshape(x.shape[0], num, channels)
    h = Linear(self.width, channels**-0.5, use_bias=True, name="inputs")(features(tokens, self.levels))
    if self.positions_by == "learned":
      h = h + self.param("positions", jax.nn.initializers.normal(1.0), (num, self.width))
    h = h + conditioning(self.width, time, context)[:, None]
    h = drop(self, h, self.dropout)
    out_stddev = (2 * self.num_layers * self.width) ** -0.5
    for layer in range(self.num_layers):
      h = BidirectionalBlock(self.num_heads, self.mlp_ratio, out_stddev, self.positions_by == "rotary", self.dropout,
                             name=f"block_{layer}")(h)
    h = nn.LayerNorm(epsilon=1e-5, name="last_norm")(h)
    logits = Linear(channels * self.levels, STDDEV, use_bias=True, name="last")(h)
    return logits.reshape(*x.shape, self.levels)


class BidirectionalBlock(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)).

  Attributes:
    num_heads: of the attention.
    mlp_ratio: hidden units over the width.
    out_stddev: initial standard deviation of weights that add to the residual stream.
    rotate: whether positions are rotary.
    dropout: rate on what is added.
  """

  num_heads: int
  mlp_ratio: int
  out_stddev: float
  rotate: bool
  dropout: float

  @nn.compact
  def __call__(self, x):
    width = x.shape[-1]
    attention = FullAttention(self.num_heads, self.out_stddev, self.rotate, name="attention")
    x = x + drop(self, attention(nn.LayerNorm(epsilon=1e-5, name="attention_norm")(x)), self.dropout)
    h = Linear(self.mlp_ratio * width, width**-0.5, use_bias=True, name="expand")(
        nn.LayerNorm(epsilon=1e-5, name="mlp_norm")(x))
    out_stddev = self.out_stddev / math.sqrt(self.mlp_ratio)
    added = Linear(width, out_stddev, use_bias=True, name="contract")(jax.nn.gelu(h))
    return end_of_stage(x + drop(self, added, self.dropout))
