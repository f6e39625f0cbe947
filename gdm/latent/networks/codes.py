"""Encoders of images to small images of vectors, and decoders back, for codes at every place."""

import flax.linen as nn
from jaxtyping import Array, Float

from gdm import checks
from gdm.networks.convolution import Convolution
from gdm.networks.from_data import from_data
from gdm.networks.upsampling import KINDS, Upsampling
from gdm.stages import end_of_stage


class ResidualBlock(nn.Module):
  """ReLU, 3x3 convolution, ReLU, 1x1 convolution, and the input added (arXiv:1711.00937, section 4.1).

  Attributes:
    hidden: channels between the convolutions.
  """

  hidden: int

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    h = Convolution(self.hidden, scale=2.0**0.5, name="first")(nn.relu(x))
    return x + Convolution(x.shape[-1], size=1, scale=0.5, name="last")(nn.relu(h))


class GridEncoder(nn.Module):
  """Convolutions of which all but the first halve the image, then residual blocks -> a vector at every place.

  Attributes:
    widths: channels of the convolutions; n of them make an image of 2**(n - 1) times less height and width, rounded up.
    num_blocks: residual blocks.
    outputs: numbers at each place.
  """

  widths: tuple[int, ...] = (32, 64, 64)
  num_blocks: int = 2
  outputs: int = from_data(1)

  def __post_init__(self) -> None:
    checks.sizes("encoder.widths", self.widths)
    checks.at_least("encoder.num_blocks", self.num_blocks, 0)
    super().__post_init__()

  def grid(self, event: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of what it makes of such images."""
    rows, columns = (-(-side // 2**(len(self.widths) - 1)) for side in event[:2])
    return rows, columns

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns outputs"]:
    h = x
    for i, width in enumerate(self.widths):
      made = Convolution(width, stride=1 + (i > 0), scale=1.0 if i == 0 else 2.0**0.5, name=f"convolution_{i}")(h)
      h = end_of_stage(nn.relu(made))
    for i in range(self.num_blocks):
      h = end_of_stage(ResidualBlock(self.widths[-1] // 2 or 1, name=f"block_{i}")(h))
    return Convolution(self.outputs, size=1, name="last")(h)


class GridDecoder(nn.Module):
  """A convolution, residual blocks, and layers that double the image -> numbers at every pixel.

  Attributes:
    widths: channels from the smallest image to the largest; as many as the encoder's.
    num_blocks: residual blocks.
    upsampling: how images are doubled: transposed or resize.
    places: height and width of the images.
    outputs: numbers at each pixel.
  """

  widths: tuple[int, ...] = (64, 64, 32)
  num_blocks: int = 2
  upsampling: str = "transposed"
  places: tuple[int, ...] = from_data((1, 1))
  outputs: int = from_data(1)

  def __post_init__(self) -> None:
    checks.sizes("decoder.widths", self.widths)
    checks.at_least("decoder.num_blocks", self.num_blocks, 0)
    checks.one_of("decoder.upsampling", self.upsampling, KINDS)
    super().__post_init__()

  @nn.compact
  def __call__(self, z: Float[Array, "batch rows columns inputs"]) -> Float[Array, "batch height width outputs"]:
    sides = [tuple(-(-side // 2**i) for side in self.places) for i in range(len(self.widths))]
    h = Convolution(self.widths[0], name="first")(z)
    for i in range(self.num_blocks):
      h = end_of_stage(ResidualBlock(self.widths[0] // 2 or 1, name=f"block_{i}")(h))
    h = nn.relu(h)
    for i, width in enumerate(self.widths[1:]):
      rows, columns = sides[-2 - i]
      h = Upsampling(width, self.upsampling, scale=2.0**0.5, name=f"upsampling_{i}")(h)[:, :rows, :columns]
      h = end_of_stage(nn.relu(h))
    return Convolution(self.outputs, scale=0.1, name="last")(h)
