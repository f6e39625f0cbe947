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
from gdm.networks.convolution import Convolution, convolution

KINDS = ("transposed", "resize")


class TransposedConvolution(nn.Module):
  """The transpose of a convolution with a kernel of 4 and a stride of 2: images of twice the size.

  Computed as one 3x3 convolution that makes the four pixels of each square, of which every one sees 2x2 pixels.

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
    # kernel[a, b, i, j] is of pixel (a, b) of a square and its neighbour (i, j) of 2x2: for a = 0 the rows before and
    # at it, for a = 1 at and after.
    kernel = self.param("kernel", init, (2, 2, 2, 2, inputs, self.outputs))
    whole = jnp.zeros((3, 3, inputs, 2, 2, self.outputs), x.dtype)
    for a in range(2):
      for b in range(2):
        whole = whole.at[a:a + 2, b:b + 2, :, a, b].set(kernel[a, b])
    made = convolution(x, whole.reshape(3, 3, inputs, 4 * self.outputs))
    return depth_to_space(made) + self.param("bias", jax.nn.initializers.zeros, (self.outputs,))


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
