"""Images of twice the size: transposed convolutions, and resizing before a convolution.

Where the stride does not divide the kernel, pixels of a transposed convolution are sums of unlike numbers of taps,
which shows as a checkerboard. Here the kernel is 4 and the stride 2. Resizing first makes none by construction (Odena,
Dumoulin and Olah, 2016, "Deconvolution and checkerboard artifacts").
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks
from gdm.networks.convolution import Convolution, twice_as_large

KINDS = ("transposed", "resize")


class TransposedConvolution(nn.Module):
  """The transpose of a convolution with a kernel of 4 and a stride of 2: images of twice the size.

  Attributes:
    outputs: channels it makes.
    scale: of the initial weights, normal with this over the root of what is summed; 0 starts at zero.
  """

  outputs: int
  scale: float = 1.0

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width inputs"]
               ) -> Float[Array, "batch new_height new_width outputs"]:
    inputs = x.shape[-1]
    init = jax.nn.initializers.normal(self.scale * (4 * inputs) ** -0.5)
    kernel = self.param("kernel", init, (4, 4, inputs, self.outputs))
    return twice_as_large(x, kernel) + self.param("bias", jax.nn.initializers.zeros, (self.outputs,))


class Upsampling(nn.Module):
  """Images of twice the size.

  Attributes:
    outputs: channels it makes.
    kind: "transposed", or "resize": every pixel four times, then a 3x3 convolution.
    scale: of the initial weights, as a convolution's.
  """

  outputs: int
  kind: str = "transposed"
  scale: float = 1.0

  def __post_init__(self) -> None:
    checks.one_of("upsampling", self.kind, KINDS)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "batch height width inputs"]
               ) -> Float[Array, "batch new_height new_width outputs"]:
    if self.kind == "transposed":
      return TransposedConvolution(self.outputs, self.scale, name="transposed")(x)
    return Convolution(self.outputs, scale=self.scale, name="convolution")(twice_the_size(x))


def twice_the_size(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
  """Return the images with every pixel four times, in a square."""
  return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def depth_to_space(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns fewer"]:
  """Return images of twice the size, each square of four pixels from the four quarters of one pixel's channels."""
  batch, height, width, channels = x.shape
  squares = x.reshape(batch, height, width, 2, 2, channels // 4)
  return squares.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)
