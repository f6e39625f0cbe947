"""What a U-Net of a diffusion model is made of: group normalization, residual blocks and attention over pixels."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.networks.blocks import end_of_block
from gdm.networks.convolution import Convolution
from gdm.networks.dropout import dropout
from gdm.networks.full_attention import FullAttention
from gdm.networks.linear import Linear

MAX_GROUPS, MIN_SIZE = 32, 4
EPSILON = 1e-5


class GroupNorm(nn.Module):
  """Groups of channels standardized over each image (Wu & He, arXiv:1803.08494), then scaled and shifted.

  There are at most 32 groups, of at least four channels each where there are as many.
  """

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width channels"],
               factor: Float[Array, "batch channels"] | float = 1.0,
               shift: Float[Array, "batch channels"] | float = 0.0) -> Float[Array, "batch height width channels"]:
    """`factor` and `shift` are applied last, after those of the layer's own."""
    batch, height, width, channels = x.shape
    scale = self.param("scale", jax.nn.initializers.ones, (channels,))
    bias = self.param("bias", jax.nn.initializers.zeros, (channels,))
    flat, pixels = x.reshape(batch, -1, channels), height * width

    def mean(values):
      means = over_pixels(values).reshape(batch, num_groups(channels), -1) / pixels
      return jnp.broadcast_to(means.mean(axis=-1, keepdims=True), means.shape).reshape(batch, channels)

    centre = mean(flat)
    variance = jnp.maximum(mean(flat**2) - centre**2, 0.0)  # one pass; below 0 only by rounding
    slope = jax.lax.rsqrt(variance + EPSILON) * scale
    offset = (bias - centre * slope) * factor + shift
    return (flat * to_pixels(slope * factor, pixels) + to_pixels(offset, pixels)).reshape(x.shape)


class ResidualBlock(nn.Module):
  """x + two convolutions, each after group normalization and silu; the second is told the time and the class.

  Ho et al. (arXiv:2006.11239), appendix B, with the scale and shift of Dhariwal & Nichol (arXiv:2105.05233), section
  3: normalization first, then (1 + scale) y + shift. At first it is x, through a matrix where channels change.

  Attributes:
    outputs: channels it makes.
    dropout: rate before the second convolution, where an rng named "dropout" is given.
  """

  outputs: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width inputs"],
               told: Float[Array, "batch embedding"]) -> Float[Array, "batch height width outputs"]:
    h = Convolution(self.outputs, name="first")(jax.nn.silu(GroupNorm(name="first_norm")(x)))
    modulation = Linear(2 * self.outputs, told.shape[-1] ** -0.5, use_bias=True, name="modulation")(told)
    scale, shift = jnp.split(modulation, 2, axis=-1)
    h = jax.nn.silu(GroupNorm(name="second_norm")(h, 1.0 + scale, shift))
    key = self.make_rng("dropout") if self.dropout > 0.0 and self.has_rng("dropout") else None
    h = Convolution(self.outputs, scale=0.0, name="second")(dropout(key, h, self.dropout))
    if x.shape[-1] != self.outputs:
      x = Linear(self.outputs, x.shape[-1] ** -0.5, use_bias=True, name="shortcut")(x)
    return end_of_block(x + h)


class PixelAttention(nn.Module):
  """x + self-attention over all pixels, after group normalization; at first x.

  Attributes:
    num_heads: they divide the channels.
  """

  num_heads: int = 1

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    pixels = GroupNorm(name="norm")(x).reshape(x.shape[0], -1, x.shape[-1])
    return end_of_block(x + FullAttention(self.num_heads, 0.0, name="attention")(pixels).reshape(x.shape))


def over_pixels(x: Float[Array, "batch pixels channels"]) -> Float[Array, "batch channels"]:
  """Sums over pixels.

  On CPUs by a product: XLA's CPU backend sums over many pixels in two passes, of which the first is slow.
  """
  if jax.default_backend() != "cpu":
    return jnp.sum(x, axis=1)
  return (jnp.ones((x.shape[0], 1, x.shape[1]), x.dtype) @ x)[:, 0]


def to_pixels(values: Float[Array, "batch channels"], pixels: int) -> Float[Array, "batch rows channels"]:
  """The values at each pixel; on CPUs by a product too, so that the gradient is one (see `over_pixels`)."""
  if jax.default_backend() != "cpu":
    return values[:, None]
  return jnp.ones((values.shape[0], pixels, 1), values.dtype) @ values[:, None]


def num_groups(channels: int) -> int:
  """How many groups of channels are standardized together."""
  return math.gcd(channels, min(MAX_GROUPS, max(1, channels // MIN_SIZE)))


def enlarged(x: Float[Array, "batch height width channels"], rows: int,
             columns: int) -> Float[Array, "batch rows columns channels"]:
  """Each pixel twice in both directions, cut to so many rows and columns."""
  return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)[:, :rows, :columns]
