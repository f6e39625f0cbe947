"""Convolutions of images, written so that a CPU computes them and their gradients well in loops too."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from gdm import platforms
from gdm.errors import ConfigError

FEW = 4  # channels; with so few, patches or each tap's part take little memory, and products are faster on a CPU
PLAIN = ("NHWC", "HWIO", "NHWC")


def convolution(x: Float[Array, "batch height width inputs"], kernel: Float[Array, "rows columns inputs outputs"],
                stride: int = 1) -> Float[Array, "batch new_height new_width outputs"]:
  """Return the sums of each pixel's neighbourhood times the kernel, zeros around the image, at every `stride`-th pixel.

  Sides are divided by the stride and rounded up. Of a square kernel; one of even size reaches a pixel further down and
  right than up and left, as XLA's "SAME" does. What is computed is the same on every device, as near as rounding, but
  in what order is the device's.
  """
  if platforms.backend() != "cpu":
    return _plain(x, kernel, stride)
  # XLA's CPU backend takes ten times as long for a convolution of what is smaller than the kernel; the gradient by the
  # image is a convolution of what was made.
  small = -(-min(x.shape[1:3]) // stride) < kernel.shape[0]
  if small or (x.shape[-1] <= FEW and stride == 1):
    near = patches(x, kernel.shape[0], stride)
    y = near.reshape(-1, near.shape[-1]) @ kernel.reshape(near.shape[-1], -1)
    return y.reshape(*near.shape[:-1], -1)
  if kernel.shape[-1] <= FEW and stride == 1 and kernel.shape[0] % 2:
    return _sum_of_taps(x, kernel)
  return _on_cpu(x, kernel, stride)


def twice_as_large(x: Float[Array, "batch height width inputs"], kernel: Float[Array, "4 4 inputs outputs"]
                   ) -> Float[Array, "batch twice_height twice_width outputs"]:
  """Return the transpose of a convolution with a kernel of 4 and a stride of 2: images of twice the size.

  A pixel at row 2 s - 1 + u, counted from 0, gets the sum over s of kernel[u] x[s]; columns alike. So each sees 2 x 2
  of the smaller image's pixels.
  """
  if platforms.backend() != "cpu":
    return jax.lax.conv_general_dilated(x, kernel[::-1, ::-1], (1, 1), ((2, 2), (2, 2)), (2, 2),
                                        dimension_numbers=PLAIN)
  return _twice_on_cpu(x, kernel)


def patches(x: Float[Array, "batch rows columns inputs"], size: int = 3,
            stride: int = 1) -> Float[Array, "batch new_rows new_columns taps"]:
  """Return the size x size neighbourhood of every `stride`-th pixel, side by side; zeros outside the image, as of
  "SAME".

  A product with these is a convolution. On a CPU it takes about as long as one, but the gradient of its weights takes
  tens of times as long inside a loop, as where several training steps make one call.
  """
  padded, ends = _padded(x, size, stride), [stride * (-(-side // stride) - 1) + 1 for side in x.shape[1:3]]
  taps = [padded[:, i:i + ends[0]:stride, j:j + ends[1]:stride] for i, j in itertools.product(range(size), repeat=2)]
  return jnp.concatenate(taps, axis=-1)


def _padded(x: Array, size: int, stride: int) -> Array:
  """Return the images with zeros around them, as of "SAME"."""
  reach = [stride * (-(-side // stride) - 1) + size for side in x.shape[1:3]]
  outside = [max(each - side, 0) for each, side in zip(reach, x.shape[1:3], strict=True)]
  return jnp.pad(x, ((0, 0), *((num // 2, num - num // 2) for num in outside), (0, 0)))


class Convolution(nn.Module):
  """`convolution` with a kernel and a bias of its own.

  Attributes:
    outputs: channels it makes.
    stride: pixels from one output to the next.
    size: side of the kernel.
    scale: of the initial weights, normal with this over the root of what is summed; 0 starts at zero.
  """

  outputs: int
  stride: int = 1
  size: int = 3
  scale: float = 1.0

  def __post_init__(self) -> None:
    if self.size < 1 or self.stride < 1 or self.outputs < 1:
      raise ConfigError(f"size of a convolution is {self.size}, stride {self.stride} and outputs {self.outputs}; "
                        "all must be at least 1.")
    super().__post_init__()

  @nn.compact
  def __call__(self,
               x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch new_height new_width outputs"]:
    shape = (self.size, self.size, x.shape[-1], self.outputs)
    stddev = self.scale * (self.size**2 * x.shape[-1]) ** -0.5
    kernel = self.param("kernel", jax.nn.initializers.normal(stddev), shape)
    return convolution(x, kernel, self.stride) + self.param("bias", jax.nn.initializers.zeros, (self.outputs,))


def _plain(x: Array, kernel: Array, stride: int, dimensions: tuple[str, str, str] = PLAIN) -> Array:
  return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=dimensions)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _on_cpu(x: Array, kernel: Array, stride: int) -> Array:
  """Return the plain convolution, with derivatives that a CPU computes well.

  XLA's CPU backend has one fast convolution, that of batch, rows, columns, channels and a kernel of rows, columns,
  inputs, outputs. Other orders of axes it brings into that one by transposes, but not inside loops: there it takes a
  convolution's gradient by the kernel tens of times as long, and that by the image eight times. So the derivative is
  written with its axes moved such that both gradients, which autodiff makes by exchanging batch and inputs, or inputs
  and outputs, come out in the one fast order. That writing of the derivative is only ever transposed, except in
  forward-mode derivatives by the kernel.
  """
  return _plain(x, kernel, stride)


@functools.partial(_on_cpu.defjvp, symbolic_zeros=True)
def _derivative(stride, primals, tangents):
  (x, kernel), (dx, dkernel) = primals, tangents
  y = _on_cpu(x, kernel, stride)
  dy = jnp.zeros_like(y)
  if not isinstance(dx, SymbolicZero):
    dy = dy + _by_planes(dx, kernel.swapaxes(2, 3), stride, ("NHWC", "HWOI", "NHWC"))
  if not isinstance(dkernel, SymbolicZero):
    images, moved = x.transpose(3, 1, 2, 0), dkernel.transpose(2, 0, 1, 3)
    dy = dy + _plain(images, moved, stride, ("CHWN", "IHWO", "HWNC")).transpose(2, 0, 1, 3)
  return y, dy


def _by_planes(x: Array, kernel: Array, stride: int, dimensions: tuple[str, str, str]) -> Array:
  """Return the plain convolution as a sum of ones of stride 1, of every `stride`-th pixel from each first one on.

  Its transpose multiplies no zeros, and its further derivatives, as in a penalty of a gradient, are convolutions of
  stride 1 too, several times as fast on a CPU as those of a convolution with a stride.
  """
  if stride == 1:
    return _plain(x, kernel, 1, dimensions)
  size, padded = kernel.shape[0], _padded(x, kernel.shape[0], stride)
  made = []
  for a, b in itertools.product(range(min(stride, size)), repeat=2):
    taps = kernel[a::stride, b::stride]
    rows, columns = (-(-side // stride) + num - 1 for side, num in zip(x.shape[1:3], taps.shape[:2], strict=True))
    plane = padded[:, a::stride, b::stride][:, :rows, :columns]
    # Made as large as it is, and cut: XLA would exchange the two sides of its derivative where one were larger.
    outside = [(0, num - 1) for num in taps.shape[:2]]
    made.append(jax.lax.conv_general_dilated(plane, taps, (1, 1), outside, dimension_numbers=dimensions))
  height, width = (-(-side // stride) for side in x.shape[1:3])
  return functools.reduce(jnp.add, [each[:, :height, :width] for each in made])


def _sum_of_taps(x: Array, kernel: Array) -> Array:
  """Return the plain convolution of stride 1 as one product with all taps, whose parts are moved and summed."""
  size, half, (rows, columns) = kernel.shape[0], kernel.shape[0] // 2, x.shape[1:3]
  parts = x @ kernel.transpose(2, 0, 1, 3).reshape(x.shape[-1], -1)
  parts = jnp.pad(parts, ((0, 0), (half, half), (half, half), (0, 0))).reshape(
      x.shape[0], rows + size - 1, columns + size - 1, size, size, -1)
  places = itertools.product(range(size), repeat=2)
  return functools.reduce(jnp.add, [parts[:, i:i + rows, j:j + columns, i, j] for i, j in places])


@jax.custom_jvp
def _twice_on_cpu(x: Array, kernel: Array) -> Array:
  """Return `twice_as_large` by four convolutions of 2x2, one for each pixel of a square: nothing multiplies zeros.

  The derivative is written such that its transposes are convolutions in the order of axes that is fast: by the image
  the convolution with a stride that this one is the transpose of, by the kernel one with `x`'s pixels two apart.
  """
  batch, rows, columns, _ = x.shape
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  # Row 2 r + a sees rows r + a - 1 and r + a of the image, by the kernel's rows 3 - a and 1 - a.
  made = [[jax.lax.conv_general_dilated(padded[:, a:a + rows + 1, b:b + columns + 1], kernel[3 - a::-2, 3 - b::-2],
                                        (1, 1), "VALID", dimension_numbers=PLAIN) for b in range(2)] for a in range(2)]
  squares = jnp.stack([jnp.stack(pair, 3) for pair in made], 2)
  return squares.reshape(batch, 2 * rows, 2 * columns, -1)


@functools.partial(_twice_on_cpu.defjvp, symbolic_zeros=True)
def _derivative_of_twice(primals, tangents):
  (x, kernel), (dx, dkernel) = primals, tangents
  y = _twice_on_cpu(x, kernel)
  dy = jnp.zeros_like(y)
  if not isinstance(dx, SymbolicZero):
    moved = kernel[::-1, ::-1].swapaxes(2, 3)
    dy = dy + jax.lax.conv_general_dilated(dx, moved, (1, 1), ((2, 2), (2, 2)), (2, 2),
                                           dimension_numbers=("NHWC", "HWOI", "NHWC"))
  if not isinstance(dkernel, SymbolicZero):
    # Sum over v and s, t = v + 2 s - 1, as a convolution of the kernel with the image in reverse.
    images, taps = x[:, ::-1, ::-1].transpose(1, 2, 0, 3), dkernel.transpose(3, 0, 1, 2)
    outside = [(2 * side - 3, 2 * side - 3) for side in x.shape[1:3]]
    dy = dy + jax.lax.conv_general_dilated(taps, images, (1, 1), outside, rhs_dilation=(2, 2),
                                           dimension_numbers=("NHWC", "HWOI", "NHWC")).transpose(3, 1, 2, 0)
  return y, dy
