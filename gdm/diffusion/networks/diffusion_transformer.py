"""The diffusion transformer: patches of an image as tokens, in blocks that the time and the class scale and shift.

Peebles & Xie (arXiv:2212.09748), the variant adaLN-Zero (section 3.2).
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm import checks
from gdm.diffusion.networks.layers import LONGEST, DenoisingNetwork, drop
from gdm.errors import ConfigError, SpecError
from gdm.networks.attention import FullAttention
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage

EXPANSION = 4  # hidden units of a block's two-layer network over the width


class ModulatedBlock(nn.Module):
  """x + gate attention(modulated norm(x)), then x + gate mlp(modulated norm(x)); at first the identity.

  Attributes:
    num_heads: of the attention.
    dropout: rate on what is added, where an rng named "dropout" is given.
  """

  num_heads: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "batch positions width"],
               condition: Float[Array, "batch width"]) -> Float[Array, "batch positions width"]:
    width = x.shape[-1]
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation(6, width, condition)
    added = FullAttention(self.num_heads, name="attention")(norm(x, shift, scale))
    x = x + gate * drop(self, added, self.dropout)
    h = Linear(EXPANSION * width, width**-0.5, use_bias=True, name="expand")(norm(x, mlp_shift, mlp_scale))
    added = Linear(width, (EXPANSION * width) ** -0.5, use_bias=True, name="contract")(jax.nn.gelu(h))
    return end_of_stage(x + mlp_gate * drop(self, added, self.dropout))


class DiffusionTransformer(DenoisingNetwork):
  """Images [batch, height, width, inputs] and times [batch] -> [batch, height, width, outputs], at first zero.

  Dropout is on what blocks add; see `DenoisingNetwork` for the other attributes.

  Attributes:
    patch: side of a patch; it divides the sides of the images.
    width: of the tokens, a multiple of 4.
    num_layers: blocks.
    num_heads: of each; they divide the width.
  """

  patch: int = 2
  width: int = 64
  num_layers: int = 4
  num_heads: int = 4

  takes_images: ClassVar[bool] = True

  def __post_init__(self) -> None:
    checks.at_least("network.patch", self.patch, 1)
    checks.at_least("network.num_layers", self.num_layers, 1)
    if self.width < 4 or self.width % 4:
      raise ConfigError(f"network.width is {self.width}; it must be a multiple of 4: sines and cosines of rows and "
                        "columns.")
    checks.divides("network.num_heads", self.num_heads, self.width, "the width")
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width inputs"], time: Float[Array, " batch"],
               context: Float[Array, "batch classes"] | None = None) -> Float[Array, "batch height width outputs"]:
    batch, height, width, inputs = x.shape
    size = self.patch
    if height % size or width % size:
      raise SpecError(f"images are {height} x {width}, and network.patch is {size}; it must divide both sides.")
    rows, columns = height // size, width // size
    tokens = x.reshape(batch, rows, size, columns, size, inputs).swapaxes(2, 3).reshape(batch, rows * columns, -1)
    h = Linear(self.width, tokens.shape[-1] ** -0.5, use_bias=True, name="tokens")(tokens)
    h = h + positions(rows, columns, self.width)
    condition = self.condition(time, context, self.width, self.width)
    for layer in range(self.num_layers):
      h = ModulatedBlock(self.num_heads, self.dropout, name=f"block_{layer}")(h, condition)
    h = norm(h, *modulation(2, self.width, condition))
    made = Linear(size * size * self.outputs, 0.0, use_bias=True, name="last")(h)
    made = made.reshape(batch, rows, columns, size, size, self.outputs).swapaxes(2, 3)
    return made.reshape(batch, height, width, self.outputs)


def modulation(num: int, width: int, condition: Float[Array, "batch embedding"]) -> list[Float[Array, "batch 1 width"]]:
  """So many factors or terms of each channel, at first zero: one product of time and class."""
  return jnp.split(Linear(num * width, 0.0, use_bias=True, name="modulation")(condition)[:, None], num, axis=-1)


def norm(x: Float[Array, "batch positions width"], shift: Float[Array, "batch 1 width"],
         scale: Float[Array, "batch 1 width"]) -> Float[Array, "batch positions width"]:
  """Return each token standardized, then scaled and shifted by time and class."""
  mean = jnp.mean(x, axis=-1, keepdims=True)
  centred = x - mean
  variance = jnp.mean(centred**2, axis=-1, keepdims=True)
  return centred * jax.lax.rsqrt(variance + 1e-6) * (1.0 + scale) + shift


def positions(rows: int, columns: int, width: int) -> Float[Array, "positions width"]:
  """Fixed sines and cosines of each token's row, and of its column."""
  quarter = width // 4
  frequencies = LONGEST ** (-np.arange(quarter) / quarter)

  def waves(count):
    angles = np.arange(count)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)

  down = np.broadcast_to(waves(rows)[:, None], (rows, columns, 2 * quarter))
  right = np.broadcast_to(waves(columns)[None], (rows, columns, 2 * quarter))
  return jnp.asarray(np.concatenate([down, right], axis=-1).reshape(rows * columns, width), jnp.float32)
