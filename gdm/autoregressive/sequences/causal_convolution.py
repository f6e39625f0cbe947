"""Dilated causal convolutions and WaveNet's gated residual block, over a whole sequence or one position at a time.

Van den Oord et al. (arXiv:1609.03499), sections 2.1, 2.3 and 2.4. A position alone costs the same however far a layer
reaches back, because each layer caches the inputs that it will need again (Paine et al., arXiv:1611.09482).
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.networks.dropout import dropout
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage

Outputs = tuple[Float[Array, "*shape width"], Float[Array, "*shape skip"]]  # to the next block, and to the output


class CausalConvolution(nn.Module):
  """y_t = sum_j x_(t - j dilation) W_j for j = 0, …, kernel_size - 1, where x is zero before the first position.

  One product of the shifted inputs side by side. A convolution takes as long, but on a CPU the gradient of its weights
  takes 24 to 35 times as long inside a loop, as where several training steps make one call.

  The cache of a position's convolution is a ring: the input at position t lies in slot t modulo `reach`.

  Attributes:
    outputs: channels of y.
    kernel_size: taps, at least 2.
    dilation: positions from one tap to the next.
    stddev: weights start normal with this standard deviation.
  """

  outputs: int
  kernel_size: int
  dilation: int
  stddev: float

  def setup(self) -> None:
    self.linear = Linear(self.outputs, self.stddev)

  @property
  def reach(self) -> int:
    """Positions from the earliest tap to the latest."""
    return (self.kernel_size - 1) * self.dilation

  @property
  def delays(self) -> range:
    """Distance in positions from a tap to the last one, for each but the first."""
    return range(self.dilation, self.reach + 1, self.dilation)

  def apply_taps(self, taps: Sequence[Float[Array, "*shape inputs"]]) -> Float[Array, "*shape outputs"]:
    return self.linear(jnp.concatenate(taps, axis=-1))

  def __call__(self, x: Float[Array, "batch steps inputs"]) -> Float[Array, "batch steps outputs"]:
    return self.apply_taps([x, *(shift(x, delay) for delay in self.delays)])

  def step(self, x: Float[Array, "batch inputs"], ring: Float[Array, "batch reach inputs"],
           index: Int[Array, ""]) -> tuple[Float[Array, "batch outputs"], Float[Array, "batch reach inputs"]]:
    """Return the output at position `index`, and the ring in which its input has taken the place of the earliest."""
    taps = [jax.lax.dynamic_index_in_dim(ring, (index - delay) % self.reach, axis=1, keepdims=False)
            for delay in self.delays]
    return self.apply_taps([x, *taps]), jax.lax.dynamic_update_index_in_dim(ring, x, index % self.reach, axis=1)

  def ring(self, x: Float[Array, "batch steps inputs"], num: Int[Array, ""]) -> Float[Array, "batch reach inputs"]:
    """Return the ring that steps at positions 0 to num - 1 leave, given their inputs."""
    slots = jnp.arange(self.reach)
    newest = num - 1 - (num - 1 - slots) % self.reach  # the last position that was written there; below 0 none was
    return jnp.where((newest >= 0)[:, None], jnp.take(x, jnp.maximum(newest, 0), axis=1), 0.0)


class DilatedBlock(nn.Module):
  """z = tanh(filter(x)) sigmoid(gate(x)); x + z W_residual goes to the next block, z W_skip to the output.

  Equation (2) and figure 4 of the paper, without biases.

  Attributes:
    width: channels of x and z.
    skip_width: channels of the addend to the output.
    kernel_size, dilation: of the causal convolutions to filter and gate.
    num_blocks: how many blocks add up; the weights that add start with a standard deviation divided by its root.
    residual: whether there is a next block.
    dropout: rate on z.
  """

  width: int
  skip_width: int
  kernel_size: int
  dilation: int
  num_blocks: int
  residual: bool
  dropout: float

  def setup(self) -> None:
    self.convolution = CausalConvolution(2 * self.width, self.kernel_size, self.dilation,
                                         1.0 / math.sqrt(self.kernel_size * self.width))
    added = 1.0 / math.sqrt(self.width * self.num_blocks)
    self.to_skip = Linear(self.skip_width, added)
    if self.residual:
      self.to_residual = Linear(self.width, added)

  def outputs(self, x: Float[Array, "*shape width"], convolved: Float[Array, "*shape channels"],
              key: Key[Array, ""] | None = None) -> Outputs:
    filtered, gate = jnp.split(convolved, 2, axis=-1)
    z = dropout(key, jnp.tanh(filtered) * jax.nn.sigmoid(gate), self.dropout)
    return x + self.to_residual(z) if self.residual else x, self.to_skip(z)

  def __call__(self, x: Float[Array, "batch steps width"],
               key: Key[Array, ""] | None = None) -> Outputs:
    """Return the inputs of the next block, and the addend to the output; a key means training."""
    x, skip = self.outputs(x, self.convolution(x), key)
    return end_of_stage(x), skip

  def step(self, x: Float[Array, "batch width"], ring: Float[Array, "batch reach width"],
           index: Int[Array, ""]) -> tuple[Outputs, Float[Array, "batch reach width"]]:
    """Return the same at position `index`, and the ring of its convolution."""
    convolved, ring = self.convolution.step(x, ring, index)
    return self.outputs(x, convolved), ring

  def ring(self, x: Float[Array, "batch steps width"], num: Int[Array, ""]) -> Float[Array, "batch reach width"]:
    """Return the ring of its convolution after positions 0 to num - 1, whose inputs are x."""
    return self.convolution.ring(x, num)


def shift(x: Float[Array, "batch steps width"], by: int) -> Float[Array, "batch steps width"]:
  """Return x moved `by` positions later, zeros in front."""
  steps = x.shape[1]
  return jnp.pad(x[:, :max(steps - by, 0)], ((0, 0), (min(by, steps), 0), (0, 0)))
