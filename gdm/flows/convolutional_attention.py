"""The network of Flow++'s couplings: gated convolutions and self-attention (Ho et al., arXiv:1902.00275, section 3.3).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.networks.attention import FullAttention
from gdm.networks.convolution import patches
from gdm.networks.dropout import dropout
from gdm.networks.linear import Linear
from gdm.networks.residual_convolution import LastLayer, require_context


class ConvolutionalAttention(nn.Module):
  """Images [batch, height, width, inputs] -> [batch, height, width, outputs], at first zero.

  Each block adds a gated 3x3 convolution, which sees the context, and gated self-attention over all pixels, each
  followed by layer normalization.

  Attributes:
    outputs: channels it makes.
    hidden: channels inside.
    num_blocks: blocks.
    num_heads: of attention; they divide `hidden`. 0 for no attention.
    context: width of the context; 0 for none.
    dropout: rate, in each convolution, where an rng named "dropout" is given.
  """

  outputs: int
  hidden: int = 64
  num_blocks: int = 2
  num_heads: int = 4
  context: int = 0
  dropout: float = 0.0

  def __post_init__(self) -> None:
    for name in ("hidden", "num_blocks"):
      checks.at_least(name, getattr(self, name), 1)
    checks.at_least("num_heads", self.num_heads, 0, "(0: no attention)")
    if self.num_heads:
      checks.multiple_of("hidden", self.hidden, self.num_heads, "num_heads")
    checks.rate("dropout", self.dropout)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch rows columns inputs"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch rows columns outputs"]:
    given = require_context(context, self.context, "ConvolutionalAttention")
    hidden, (rows, columns) = self.hidden, x.shape[1:3]
    h = Linear(hidden, stddev=(9 * x.shape[-1])**-0.5, use_bias=True, name="first")(patches(x))
    for i in range(self.num_blocks):
      # Both signs are kept: elu of (h, -h), as in the paper's code.
      r = patches(jax.nn.elu(jnp.concatenate([h, -h], axis=-1)))
      r = Linear(hidden, stddev=(18 * hidden)**-0.5, use_bias=True, name=f"wide_{i}")(r)
      if given is not None:
        r = r + Linear(hidden, stddev=self.context**-0.5, name=f"context_{i}")(given)[:, None, None]
      key = self.make_rng("dropout") if self.dropout > 0.0 and self.has_rng("dropout") else None
      r = dropout(key, jax.nn.elu(jnp.concatenate([r, -r], axis=-1)), self.dropout)
      h = nn.LayerNorm(name=f"norm_{i}")(h + self.gated(r, f"gate_{i}"))
      if self.num_heads:
        pixels = h.reshape(-1, rows * columns, hidden)
        place = self.param(f"position_{i}", jax.nn.initializers.normal(0.02), (rows * columns, hidden))
        attended = FullAttention(self.num_heads, name=f"attention_{i}")(pixels + place)
        h = nn.LayerNorm(name=f"attended_norm_{i}")(h + self.gated(attended.reshape(h.shape), f"attended_gate_{i}"))
    return LastLayer(self.outputs, name="last")(jax.nn.elu(h))

  def gated(self, r: Float[Array, "batch rows columns inputs"], name: str) -> Float[Array, "batch rows columns hidden"]:
    """Return a product of each pixel's channels, times the sigmoid of another."""
    value, gate = jnp.split(Linear(2 * self.hidden, stddev=r.shape[-1]**-0.5, use_bias=True, name=name)(r), 2, axis=-1)
    return value * jax.nn.sigmoid(gate)
