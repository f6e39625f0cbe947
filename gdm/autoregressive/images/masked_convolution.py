"""Convolutions over images in which a pixel depends on those before it in raster order, and on nothing else.

Masks A and B of van den Oord et al. (arXiv:1601.06759), section 3.4, without masked-out weights: a kernel has the taps
that it may use. Only between the channels of one pixel (red, then green, then blue) there is a mask.

A pixel alone costs the same wherever it lies, because each convolution caches the inputs that it will need again.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Offsets = tuple[tuple[int, int], ...]  # (rows down, columns right) from a pixel to those that it depends on

HERE: Offsets = ((0, 0),)


def above_and_left(size: int) -> Offsets:
  """Return the half of a size x size neighbourhood that comes before its centre."""
  reach = size // 2
  return tuple((i, j) for i in range(-reach, 1) for j in range(-reach, reach + 1) if (i, j) < (0, 0))


def above(size: int) -> Offsets:
  """Return the rows of a size x size neighbourhood down to its centre's row."""
  reach = size // 2
  return tuple((i, j) for i in range(-reach, 1) for j in range(-reach, reach + 1))


def strictly_above(size: int) -> Offsets:
  """Return the rows of a size x size neighbourhood above its centre's row."""
  return tuple((i, j) for i, j in above(size) if i < 0)


def left(size: int) -> Offsets:
  """Return the places before the centre in its row of a size x size neighbourhood."""
  return tuple((0, j) for j in range(-(size // 2), 0))


def channel_mask(inputs: int, outputs: int, channels: int, mask: str) -> Bool[np.ndarray, "inputs outputs"]:
  """Return which outputs depend on which inputs of their pixel.

  Units lie in as many equal groups as the image has channels. Mask "A" connects a group to those before it, "B" to
  itself as well, "" to all.
  """
  if not mask:
    return np.ones((inputs, outputs), bool)
  source, target = (np.arange(size) * channels // size for size in (inputs, outputs))
  return source[:, None] < target + (mask == "B")


class MaskedConvolution(nn.Module):
  """y(i, j) = b + sum over offsets (di, dj) of x(i + di, j + dj) W(di, dj), where x is zero outside the image.

  Attributes:
    outputs: units of y.
    offsets: of the pixels that y depends on, (0, 0) among them or not.
    channels: of the image: units lie in so many groups.
    mask: which channels of the pixel itself y depends on, where (0, 0) is an offset: "A", "B" or "" for all.
    stddev: weights start normal with this standard deviation; None for one over the root of what is summed.
    use_bias: whether a bias, at first zero, is added.
  """

  outputs: int
  offsets: Offsets
  channels: int = 1
  mask: str = ""
  stddev: float | None = None
  use_bias: bool = True

  @property
  def taps(self) -> Offsets:
    """The offsets that some output may use: with one channel, mask A leaves nothing of the pixel itself."""
    return tuple(offset for offset in self.offsets if offset != (0, 0) or self.channels > 1 or self.mask != "A")

  @nn.compact
  def weights(self, inputs: int) -> tuple[Float[Array, "taps_inputs outputs"], Float[Array, " outputs"] | None]:
    """Return the kernel, masked, with rows in the order of `taps`, and the bias."""
    rows = len(self.taps) * inputs
    stddev = 1.0 / math.sqrt(rows) if self.stddev is None else self.stddev
    kernel = self.param("kernel", jax.nn.initializers.normal(stddev), (rows, self.outputs))
    if self.mask and self.channels > 1:
      here = channel_mask(inputs, self.outputs, self.channels, self.mask)
      elsewhere = np.ones_like(here)
      kernel = jnp.where(np.concatenate([here if tap == (0, 0) else elsewhere for tap in self.taps]), kernel, 0.0)
    return kernel, self.param("bias", jax.nn.initializers.zeros, (self.outputs,)) if self.use_bias else None

  def apply_taps(self, taps: Float[Array, "*shape inputs"]) -> Float[Array, "*shape outputs"]:
    """Return the outputs from the inputs at all taps, side by side in the order of `taps`."""
    kernel, bias = self.weights(taps.shape[-1] // len(self.taps))
    y = (taps.reshape(-1, taps.shape[-1]) @ kernel).reshape(*taps.shape[:-1], self.outputs)
    return y if bias is None else plus(y, bias)

  def __call__(self, x: Float[Array, "*shape inputs"]) -> Float[Array, "*shape outputs"]:
    """Return the outputs of images [batch, height, width, inputs], or of any shape where (0, 0) is the one offset."""
    if self.taps == HERE:
      return self.apply_taps(x)
    kernel, bias = self.weights(x.shape[-1])
    y: Any = convolve(x, kernel, self.taps)
    return y if bias is None else plus(y, bias)

  def step(self, ring: Float[Array, "slots batch inputs"], pixel: Int[Array, ""],
           width: int) -> Float[Array, "batch outputs"]:
    """Return the outputs at one pixel, from a ring that holds its inputs and those before it."""
    return self.apply_taps(ring_neighbours(ring, pixel, width, self.taps))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: Float[Array, "batch height width inputs"], kernel: Float[Array, "taps_inputs outputs"],
             offsets: Offsets) -> Float[Array, "batch height width outputs"]:
  """Return the product of the inputs at all offsets, side by side, with the kernel.

  Computed as a convolution, since it takes memory, and time, to write inputs side by side; so is the gradient of the
  inputs. Only the kernel's gradient is a product. On a CPU the gradients of XLA's convolution take up to a hundred
  times as long inside a loop, as where several training steps make one call; these do not.
  """
  return _with_matrices(x, dict(zip(offsets, kernel.reshape(len(offsets), x.shape[-1], -1), strict=True)))


def _with_matrices(x: Float[Array, "batch height width inputs"],
                 matrices: Mapping[tuple[int, int], Float[Array, "inputs outputs"]]) -> Float[
                     Array, "batch height width outputs"]:
  """Return the convolution with a matrix at each offset, and zeros where the offsets leave gaps in their rectangle."""
  (top, bottom), (first, last) = ((min(numbers), max(numbers)) for numbers in zip(*matrices, strict=True))
  nothing = jnp.zeros_like(next(iter(matrices.values())))
  rows = [jnp.stack([matrices.get((i, j), nothing) for j in range(first, last + 1)]) for i in range(top, bottom + 1)]
  return jax.lax.conv_general_dilated(x, jnp.stack(rows), (1, 1), ((-top, bottom), (-first, last)),
                                      dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _convolve(x, kernel, offsets):
  return convolve(x, kernel, offsets), (x, kernel)


def _gradients(offsets, residuals, gradient):
  x, kernel = residuals
  matrices = kernel.reshape(len(offsets), x.shape[-1], -1)
  grad_inputs = _with_matrices(gradient, {(-i, -j): matrix.T for (i, j), matrix in zip(offsets, matrices, strict=True)})
  taps = neighbours(x, offsets)
  return grad_inputs, taps.reshape(-1, taps.shape[-1]).T @ gradient.reshape(-1, gradient.shape[-1])


convolve.defvjp(_convolve, _gradients)


@jax.custom_vjp
def plus(x: Float[Array, "*shape units"], bias: Float[Array, " units"]) -> Float[Array, "*shape units"]:
  """Return x + bias, with the bias' gradient as a product.

  A sum over several axes is slow on a CPU, and takes the computation of what it sums into its loop.
  """
  return x + bias


def _plus_gradients(_, gradient):
  rows = gradient.reshape(-1, gradient.shape[-1])
  return gradient, jnp.ones(rows.shape[0], rows.dtype) @ rows


plus.defvjp(lambda x, bias: (x + bias, None), _plus_gradients)


def neighbours(x: Float[Array, "*shape inputs"], offsets: Offsets) -> Float[Array, "*shape taps_inputs"]:
  """Return the inputs at all offsets of each pixel of images [batch, height, width], side by side; zeros outside."""
  if offsets == HERE:
    return x
  _, height, width, _ = x.shape
  rows, columns = zip(*offsets, strict=True)
  up, before, after = -min(rows), max(0, -min(columns)), max(0, *columns)
  padded = jnp.pad(x, ((0, 0), (up, 0), (before, after), (0, 0)))
  taps = [padded[:, up + i:up + i + height, before + j:before + j + width] for i, j in offsets]
  return jnp.concatenate(taps, axis=-1)


def row_neighbours(rows: Float[Array, "batch rows width inputs"],
                   offsets: Offsets) -> Float[Array, "batch width taps_inputs"]:
  """Return the inputs at all offsets of each pixel of one row, side by side, from the rows that the offsets reach."""
  width, first = rows.shape[2], min(i for i, _ in offsets)
  side = max(abs(j) for _, j in offsets)
  padded = jnp.pad(rows, ((0, 0), (0, 0), (side, side), (0, 0)))
  return jnp.concatenate([padded[:, i - first, side + j:side + j + width] for i, j in offsets], axis=-1)


def reach(offsets: Offsets, width: int) -> int:
  """Return how many pixels before it the earliest offset of a pixel lies, in raster order of an image of this width."""
  return max(-(i * width + j) for i, j in offsets)


def empty_ring(offsets: Offsets, width: int, num: int, inputs: int,
               dtype: jnp.dtype) -> Float[Array, "slots batch inputs"]:
  """Return zeros for the inputs at a pixel and its offsets; pixel p, in raster order, lies in slot p modulo `slots`."""
  return jnp.zeros((reach(offsets, width) + 1, num, inputs), dtype)


def rows_above(ring: Float[Array, "slots batch inputs"], row: Int[Array, ""], width: int,
               num: int) -> Float[Array, "batch rows width inputs"]:
  """Return the last `num` rows above `row`, from a ring that holds them; zeros above the image."""
  pixels = (row - num) * width + jnp.arange(num * width)
  found = jnp.where((pixels >= 0)[:, None, None], ring[pixels % ring.shape[0]], 0.0)
  return jnp.moveaxis(found.reshape(num, width, *ring.shape[1:]), 2, 0)


def put(ring: Float[Array, "slots batch inputs"], x: Float[Array, "batch inputs"],
        pixel: Int[Array, ""]) -> Float[Array, "slots batch inputs"]:
  """Return the ring in which the inputs at `pixel` have taken the place of the earliest, or of its former ones."""
  return jax.lax.dynamic_update_index_in_dim(ring, x.astype(ring.dtype), pixel % ring.shape[0], axis=0)


def ring_neighbours(ring: Float[Array, "slots batch inputs"], pixel: Int[Array, ""], width: int,
                    offsets: Offsets) -> Float[Array, "batch taps_inputs"]:
  """Return the inputs at all offsets of one pixel, side by side; zeros outside the image."""
  row, column = pixel // width, pixel % width
  taps = []
  for i, j in offsets:
    tap = jax.lax.dynamic_index_in_dim(ring, (pixel + i * width + j) % ring.shape[0], axis=0, keepdims=False)
    inside = (row + i >= 0) & (column + j >= 0) & (column + j < width)
    taps.append(tap if (i, j) == (0, 0) else jnp.where(inside, tap, 0.0))
  return jnp.concatenate(taps, axis=-1)
