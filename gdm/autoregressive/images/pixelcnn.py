"""PixelCNN: residual blocks of masked convolutions over images (van den Oord et al., arXiv:1601.06759, section 3)."""

import math

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int, Key

from gdm.autoregressive.images.image_model import ImageModel
from gdm.autoregressive.images.image_network import FramedNetwork
from gdm.autoregressive.images.masked_convolution import HERE, MaskedConvolution, above_and_left, empty_ring, put
from gdm.dataspec import DataSpec
from gdm.networks.dropout import dropout
from gdm.stages import end_of_stage

Rings = tuple[Float[Array, "_ batch _"], ...]  # slots, units of each


class MaskedResidualBlock(nn.Module):
  """x + W2 relu(masked convolution(relu(W1 relu(x)))): figure 5, left.

  Attributes:
    width: units within the block; x has twice as many.
    kernel_size: of the convolution.
    channels: of the image.
    num_blocks: how many blocks add up; the weights that add start with a standard deviation divided by its root.
    dropout: rate on what is added, before its last layer.
  """

  width: int
  kernel_size: int
  channels: int
  num_blocks: int
  dropout: float

  def setup(self) -> None:
    self.narrow = MaskedConvolution(self.width, HERE, self.channels, "B")
    self.convolution = MaskedConvolution(self.width, self.offsets, self.channels, "B",
                                         math.sqrt(2.0 / (len(self.offsets) * self.width)))
    self.widen = MaskedConvolution(2 * self.width, HERE, self.channels, "B",
                                   math.sqrt(2.0 / (self.width * self.num_blocks)))

  @property
  def offsets(self) -> tuple[tuple[int, int], ...]:
    return (*above_and_left(self.kernel_size), *HERE)

  def narrowed(self, x: Float[Array, "*shape wide"]) -> Float[Array, "*shape width"]:
    return jax.nn.relu(self.narrow(jax.nn.relu(x)))

  def added(self, convolved: Float[Array, "*shape width"], key: Key[Array, ""] | None) -> Float[Array, "*shape wide"]:
    return self.widen(dropout(key, jax.nn.relu(convolved), self.dropout))

  def __call__(self, x: Float[Array, "batch height columns wide"],
               key: Key[Array, ""] | None) -> Float[Array, "batch height columns wide"]:
    return end_of_stage(x + self.added(self.convolution(self.narrowed(x)), key))

  def step(self, x: Float[Array, "batch wide"], ring: Float[Array, "slots batch width"], pixel: Int[Array, ""],
           columns: int) -> tuple[Float[Array, "batch wide"], Float[Array, "slots batch width"]]:
    """Return the same at one pixel, and the ring of its convolution."""
    ring = put(ring, self.narrowed(x), pixel)
    return x + self.added(self.convolution.step(ring, pixel, columns), None), ring


class PixelCNN(FramedNetwork):
  """PixelCNN's network.

  It has a blind spot (van den Oord et al., arXiv:1606.05328, section 2.2): each row further up reaches only so much
  further right as half a kernel, however many blocks there are. `GatedPixelCNN` has none.

  Attributes:
    width: units within the residual blocks (h in the paper); between blocks there are twice as many.
    num_blocks: residual blocks.
    kernel_size: kernel size of the blocks' convolutions, odd, which have mask B; the first convolution has mask A.
    head_width: units of the hidden layer before the outputs.
  """

  width: int = 72  # a multiple of one channel and of three
  num_blocks: int = 8
  kernel_size: int = 3
  head_width: int = 144

  def __post_init__(self) -> None:
    self.check(("num_blocks",), ("width", "head_width"), ("first_size", "kernel_size"))
    super().__post_init__()

  def setup(self) -> None:
    self.set_up_frame(2 * self.width, self.head_width)
    self.blocks = [MaskedResidualBlock(self.width, self.kernel_size, self.event[-1], self.num_blocks, self.dropout)
                   for _ in range(self.num_blocks)]

  def outputs_from_codes(self, codes, key=None, y=None):
    _, x, keys = self.begin(codes, key, self.num_blocks)
    for block, block_key in zip(self.blocks, keys, strict=True):
      x = block(x, block_key)
    return self.read_out(x)

  def init_cache(self, num, dtype, y=None) -> Rings:
    """Return rings of the codes and of each block."""
    return (self.empty_codes(num, dtype), *(empty_ring(block.offsets, self.event[1], num, self.width, dtype)
                                            for block in self.blocks))

  @nn.nowrap
  def advance(self, variables, cache, previous, index):
    return self.apply(variables, cache, previous, index, method="step")

  def step(self, cache: Rings, previous: Int[Array, " batch"],
           index: Int[Array, ""]) -> tuple[Float[Array, "batch outputs"], Rings]:
    """Return the outputs for the pixel of the value at `index`, and the next cache; `previous` is the value before."""
    _, columns, channels = self.event
    pixel, (codes, *rings) = index // channels, cache
    codes = self.put_previous(codes, previous, index)
    x, new = self.begin_step(codes, pixel), [codes]
    for block, ring in zip(self.blocks, rings, strict=True):
      x, ring = block.step(x, ring, pixel, columns)
      new.append(ring)
    return self.read_out(x), tuple(new)


def pixelcnn(spec: DataSpec, network: PixelCNN = PixelCNN()) -> ImageModel:
  """Return a PixelCNN with a categorical distribution of each value.

  Args:
    spec: the data.
    network: its layers and their sizes.
  """
  return ImageModel(spec, network)
