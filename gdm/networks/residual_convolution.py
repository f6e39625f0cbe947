"""The residual convolutional network that couplings of images take their parameters from.

Dinh et al., arXiv:1605.08803, section 4.1; the last layer is Glow's (Kingma & Dhariwal, arXiv:1807.03039, section 3.3).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.errors import ConfigError, SpecError
from gdm.networks.activations import activation
from gdm.networks.convolution import patches
from gdm.networks.dropout import dropout
from gdm.networks.linear import Linear


class LastLayer(nn.Module):
  """A 3x3 convolution that starts at zero, with a learned factor for each output: Glow's.

  Attributes:
    outputs: channels it makes.
    log_scale_factor: the factor is the exponential of so many times its parameter, which thereby learns faster.
  """

  outputs: int
  log_scale_factor: float = 3.0

  @nn.compact
  def __call__(self, x: Float[Array, "batch rows columns inputs"]) -> Float[Array, "batch rows columns outputs"]:
    y = Linear(self.outputs, stddev=0.0, use_bias=True, name="linear")(patches(x))
    log_scale = self.param("log_scale", jax.nn.initializers.zeros, (self.outputs,))
    return y * jnp.exp(self.log_scale_factor * log_scale)


class ResidualConvolution(nn.Module):
  """Images [batch, height, width, inputs] -> [batch, height, width, outputs], at first zero.

  A 3x3 convolution, residual blocks of a 3x3 and a 1x1 convolution, each after the activation, and `LastLayer`. The
  context is added before each block, through a matrix of its own.

  Attributes:
    outputs: channels it makes.
    hidden: channels inside.
    num_blocks: residual blocks.
    context: width of the context; 0 for none.
    activation: its name.
    dropout: rate, in each block before its second convolution, where an rng named "dropout" is given.
  """

  outputs: int
  hidden: int = 64
  num_blocks: int = 2
  context: int = 0
  activation: str = "relu"
  dropout: float = 0.0

  def __post_init__(self) -> None:
    if self.num_blocks < 1 or self.hidden < 1:
      raise ConfigError(f"num_blocks is {self.num_blocks} and hidden {self.hidden}; each must be at least 1.")
    checks.rate("dropout", self.dropout)
    activation(self.activation)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch rows columns inputs"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch rows columns outputs"]:
    given = require_context(context, self.context, "ResidualConvolution")
    act = activation(self.activation)
    rows = 9 * x.shape[-1]
    h = Linear(self.hidden, stddev=rows**-0.5, use_bias=True, name="first")(patches(x))
    for i in range(self.num_blocks):
      if given is not None:
        shift = Linear(self.hidden, stddev=self.context**-0.5, name=f"context_{i}")(given)
        h = h + shift[:, None, None]
      r = Linear(self.hidden, stddev=(2.0 / (9 * self.hidden))**0.5, use_bias=True, name=f"wide_{i}")(patches(act(h)))
      key = self.make_rng("dropout") if self.dropout > 0.0 and self.has_rng("dropout") else None
      r = dropout(key, act(r), self.dropout)
      h = h + Linear(self.hidden, stddev=(2.0 / self.hidden)**0.5, use_bias=True, name=f"narrow_{i}")(r)
    return LastLayer(self.outputs, name="last")(act(h))


class PriorConvolution(nn.Module):
  """Glow's learned prior: one 3x3 convolution that starts at zero, and the context through a matrix that does.

  Attributes:
    outputs: channels it makes.
    context: width of the context; 0 for none.
  """

  outputs: int
  context: int = 0

  @nn.compact
  def __call__(self, x: Float[Array, "batch rows columns inputs"],
               context: Float[Array, "batch width"] | None = None) -> Float[Array, "batch rows columns outputs"]:
    given = require_context(context, self.context, "PriorConvolution")
    y = LastLayer(self.outputs, name="last")(x)
    if given is not None:
      y = y + Linear(self.outputs, stddev=0.0, name="context")(given)[:, None, None]
    return y


def require_context(context: Float[Array, "batch width"] | None, width: int,
                    who: str) -> Float[Array, "batch width"] | None:
  """Return the context; a SpecError unless it is [batch, width], or None where width is 0."""
  found = 0 if context is None else context.shape[-1]
  if found != width:
    raise SpecError(f"{who} was made for a context of width {width} (0 is none), but the context has width {found}.")
  return context
