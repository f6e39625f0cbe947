"""The U-Net: a denoising network for images (Ho et al., arXiv:2006.11239, appendix B).

Residual blocks at falling resolutions and back again, where each block also takes the output of its counterpart on the
way down. Sides are halved and rounded up, so images of any size will do.
"""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks, platforms
from gdm.diffusion.networks.layers import DenoisingNetwork, drop
from gdm.diffusion.networks.words import FoundWords, Words, split_prefix
from gdm.errors import ConfigError, SpecError
from gdm.mesh import constrain_batch
from gdm.networks.attention import CrossAttention, FullAttention
from gdm.networks.convolution import Convolution
from gdm.networks.linear import Linear
from gdm.stages import end_of_stage

EXPANSION = 4  # width of the time's embedding over the network's
MAX_GROUPS, MIN_SIZE = 32, 4
EPSILON = 1e-5


class UNet(DenoisingNetwork):
  """Images [batch, height, width, inputs] and times [batch] -> [batch, height, width, outputs], at first zero.

  Dropout is within the residual blocks; see `DenoisingNetwork` for the other attributes.

  Attributes:
    width: channels at the full resolution, even.
    multipliers: of the width, one for each resolution.
    num_blocks: residual blocks per resolution on the way down; one more on the way up.
    attention: sides of the image, the longer one, at which each block is followed by self-attention. The lowest
      resolution has one between its middle blocks in any case.
    num_heads: of each attention; they divide the channels there.
    patch: side of squares of pixels whose values are the channels of one, at the full resolution of the network: the
      work is a patch**2-th (arXiv:2301.11093, section 3.2). It divides height and width.
    word_width: of the vectors of words, where the data have a prefix: pixels attend to them wherever they attend to
      each other, and their mean is part of what all blocks are conditioned on.
    word_dropout: share of the words that training withholds.
  """

  width: int = 32
  multipliers: tuple[int, ...] = (1, 2)
  num_blocks: int = 2
  attention: tuple[int, ...] = ()
  num_heads: int = 1
  patch: int = 1
  word_width: int = 64
  word_dropout: float = 0.0

  takes_images: ClassVar[bool] = True
  takes_prefix: ClassVar[bool] = True

  def __post_init__(self) -> None:
    checks.at_least("network.num_blocks", self.num_blocks, 1)
    checks.at_least("network.patch", self.patch, 1)
    checks.at_least("network.word_width", self.word_width, 1)
    checks.rate("network.word_dropout", self.word_dropout)
    if self.width < 2 or self.width % 2:
      raise ConfigError(f"network.width is {self.width}; it must be even and at least 2.")
    if not self.multipliers or min(self.multipliers) < 1:
      raise ConfigError(f"network.multipliers is {tuple(self.multipliers)}; it must have one >= 1 for each resolution.")
    for multiplier in self.multipliers:
      checks.divides("network.num_heads", self.num_heads, multiplier * self.width, "the channels of each resolution")
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width inputs"], time: Float[Array, " batch"],
               context: Float[Array, "batch classes"] | None = None) -> Float[Array, "batch height width outputs"]:
    for size, name in zip(x.shape[1:3], ("the height of images", "their width"), strict=True):
      checks.divides("network.patch", self.patch, size, name)
    x = joined_pixels(x, self.patch)
    self._require_sides(*x.shape[1:3])
    prefix, context = split_prefix(context, self.prefix[0])
    condition = self.condition(time, context, EXPANSION * self.width, self.width)
    words = None
    if self.prefix[0]:
      words = Words(self.word_width, *self.prefix, self.word_dropout, name="words")(prefix, len(x))
      condition = condition + Linear(condition.shape[-1], 0.0, name="of_words")(words.mean)

    def attend(h, name):
      h = ImageAttention(self.num_heads, name=name)(h)
      return h if words is None else WordAttention(self.num_heads, name=f"{name}_to_words")(h, words)

    def block(h, name, multiplier):
      h = UNetBlock(multiplier * self.width, self.dropout, name=name)(h, condition)
      return attend(h, f"{name}_attention") if max(h.shape[1:3]) in self.attention else h

    h = Convolution(self.width, name="first")(x)
    skips, last = [h], len(self.multipliers) - 1
    for level, multiplier in enumerate(self.multipliers):
      for i in range(self.num_blocks):
        h = block(h, f"down_{level}_{i}", multiplier)
        skips.append(h)
      if level < last:
        h = Convolution(multiplier * self.width, stride=2, name=f"smaller_{level}")(h)
        skips.append(h)
    h = UNetBlock(h.shape[-1], self.dropout, name="middle_0")(h, condition)
    h = attend(h, "middle_attention")
    h = UNetBlock(h.shape[-1], self.dropout, name="middle_1")(h, condition)
    for level in range(last, -1, -1):
      for i in range(self.num_blocks + 1):
        h = block(jnp.concatenate([h, skips.pop()], axis=-1), f"up_{level}_{i}", self.multipliers[level])
      if level:
        larger = enlarged(h, *skips[-1].shape[1:3])
        h = Convolution(h.shape[-1], name=f"larger_{level}")(larger)
    last = Convolution(self.outputs * self.patch**2, scale=0.0, name="last")
    return separate_pixels(last(jax.nn.silu(GroupNorm(name="last_norm")(h))), self.patch)

  def _require_sides(self, height: int, width: int) -> None:
    """Raise a ConfigError unless each side in `attention` is one that the image has at some resolution."""
    sides = [-(-max(height, width) // 2**level) for level in range(len(self.multipliers))]
    for side in self.attention:
      if side not in sides:
        raise ConfigError(f"attention has a side of {side}, but images of {height} x {width} have the longer sides "
                          f"{', '.join(map(str, sides))}.")
    if min(height, width) <= 2 ** (len(self.multipliers) - 2):
      raise SpecError(f"images are {height} x {width}, too small to be halved {len(self.multipliers) - 1} times; give "
                      "fewer multipliers.")


class GroupNorm(nn.Module):
  """Groups of channels standardized over each image (Wu & He, arXiv:1803.08494), then scaled and shifted.

  There are at most 32 groups, of at least four channels each where there are as many.
  """

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width channels"],
               factor: Float[Array, "batch channels"] | float = 1.0,
               shift: Float[Array, "batch channels"] | float = 0.0) -> Float[Array, "batch height width channels"]:
    """Apply `factor` and `shift` last, after the scale and bias of the layer."""
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


class UNetBlock(nn.Module):
  """x + two convolutions, each after group normalization and silu; the second is conditioned on time and class.

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
               condition: Float[Array, "batch embedding"]) -> Float[Array, "batch height width outputs"]:
    h = Convolution(self.outputs, name="first")(jax.nn.silu(GroupNorm(name="first_norm")(x)))
    # Constrained: else the gradient of each stage's condition goes from device to device where parameters are split.
    modulation = Linear(2 * self.outputs, condition.shape[-1] ** -0.5, use_bias=True,
                        name="modulation")(constrain_batch(condition))
    scale, shift = jnp.split(modulation, 2, axis=-1)
    h = jax.nn.silu(GroupNorm(name="second_norm")(h, 1.0 + scale, shift))
    h = Convolution(self.outputs, scale=0.0, name="second")(drop(self, h, self.dropout))
    if x.shape[-1] != self.outputs:
      x = Linear(self.outputs, x.shape[-1] ** -0.5, use_bias=True, name="shortcut")(x)
    return end_of_stage(x + h)


class ImageAttention(nn.Module):
  """x + self-attention over all pixels, after group normalization; at first x.

  Attributes:
    num_heads: they divide the channels.
  """

  num_heads: int = 1

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    pixels = GroupNorm(name="norm")(x).reshape(x.shape[0], -1, x.shape[-1])
    return end_of_stage(x + FullAttention(self.num_heads, 0.0, name="attention")(pixels).reshape(x.shape))


class WordAttention(nn.Module):
  """x + attention of all pixels to words, after group normalization; at first x (arXiv:2112.10752, section 3.3).

  Attributes:
    num_heads: they divide the channels.
  """

  num_heads: int = 1

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width channels"],
               words: FoundWords) -> Float[Array, "batch height width channels"]:
    pixels = GroupNorm(name="norm")(x).reshape(x.shape[0], -1, x.shape[-1])
    attended = CrossAttention(self.num_heads, name="attention")(pixels, words.vectors, words.is_word)
    return end_of_stage(x + attended.reshape(x.shape))


def joined_pixels(x: Float[Array, "batch height width channels"], side: int) -> Float[Array, "batch rows columns _"]:
  """Return squares of pixels as one pixel each, which has all their values as channels."""
  if side == 1:
    return x
  batch, height, width, channels = x.shape
  squares = x.reshape(batch, height // side, side, width // side, side, channels)
  return jnp.swapaxes(squares, 2, 3).reshape(batch, height // side, width // side, side**2 * channels)


def separate_pixels(x: Float[Array, "batch rows columns _"], side: int) -> Float[Array, "batch height width channels"]:
  """Return the pixels of which `joined_pixels` makes x."""
  if side == 1:
    return x
  batch, rows, columns, values = x.shape
  squares = x.reshape(batch, rows, columns, side, side, values // side**2)
  return jnp.swapaxes(squares, 2, 3).reshape(batch, rows * side, columns * side, values // side**2)


def over_pixels(x: Float[Array, "batch pixels channels"]) -> Float[Array, "batch channels"]:
  """Sum over pixels.

  On CPUs by a product: XLA's CPU backend sums over many pixels in two passes, of which the first is slow.
  """
  if platforms.backend() != "cpu":
    return jnp.sum(x, axis=1)
  return (jnp.ones((x.shape[0], 1, x.shape[1]), x.dtype) @ x)[:, 0]


def to_pixels(values: Float[Array, "batch channels"], pixels: int) -> Float[Array, "batch rows channels"]:
  """Return the values at each pixel; on CPUs by a product too, so that the gradient is one (see `over_pixels`)."""
  if platforms.backend() != "cpu":
    return values[:, None]
  return jnp.ones((values.shape[0], pixels, 1), values.dtype) @ values[:, None]


def num_groups(channels: int) -> int:
  """Return how many groups of channels are standardized together."""
  return math.gcd(channels, min(MAX_GROUPS, max(1, channels // MIN_SIZE)))


def enlarged(x: Float[Array, "batch height width channels"], rows: int,
             columns: int) -> Float[Array, "batch rows columns channels"]:
  """Return each pixel twice in both directions, cut to so many rows and columns."""
  return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)[:, :rows, :columns]
