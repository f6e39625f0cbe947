"""Inputs of a network for a pixel: codes of its levels, and a bias by its place."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

MAX_RAMPS = 16


class PixelBias(nn.Module):
  """A bias for each pixel, at first zero: where images are aligned, it matters where a pixel lies.

  Attributes:
    height, width: of the image.
    units: of the layer that it is added to.
  """

  height: int
  width: int
  units: int

  def setup(self) -> None:
    self.bias = self.param("bias", jax.nn.initializers.zeros, (self.height, self.width, self.units))

  def __call__(self) -> Float[Array, "height width units"]:
    return self.bias

  def at(self, pixel: Int[Array, ""]) -> Float[Array, " units"]:
    return self.bias.reshape(-1, self.units)[pixel]


def num_codes(levels: int) -> int:
  """Return the number of inputs for one channel of one pixel."""
  return min(levels - 1, MAX_RAMPS) + 1


def pixel_codes(x: Num[Array, "*shape"], levels: int) -> Float[Array, "*shape codes"]:
  """Return a thermometer: inputs that fill up, one after the other, as the level rises; and a 1.

  With few levels they are x >= 1, x >= 2, ...; with many, each rises linearly over as many levels as the others, so
  that no two levels have the same code. Neighbouring values have like codes, which small data sets need. The 1 sets
  black apart from what lies outside the image, where all inputs are 0 (Salimans et al., arXiv:1701.05517, pad with a
  channel of ones likewise).
  """
  marks = np.linspace(0.0, levels - 1.0, num_codes(levels))
  slope = 1.0 / (marks[1] - marks[0])
  ramps = jnp.clip((x[..., None].astype(jnp.float32) - marks[:-1].astype(np.float32)) * np.float32(slope), 0.0, 1.0)
  return jnp.concatenate([ramps, jnp.ones_like(ramps[..., :1])], axis=-1)


def image_codes(x: Num[Array, "batch height width channels"], levels: int) -> Float[Array, "batch height width inputs"]:
  """Return the codes of each pixel's channels, side by side."""
  return pixel_codes(x, levels).reshape(*x.shape[:-1], -1)


def put_value(ring: Float[Array, "slots batch inputs"], x: Num[Array, " batch"], index: Int[Array, ""], channels: int,
              levels: int) -> Float[Array, "slots batch inputs"]:
  """Return a ring of `image_codes` with the value at `index`, in raster order with channels innermost.

  At index -1 nothing is changed but the last slot, on which no pixel depends before it is written again.
  """
  code = pixel_codes(x, levels).astype(ring.dtype)[None]
  start = ((index // channels) % ring.shape[0], 0, (index % channels) * code.shape[-1])
  return jax.lax.dynamic_update_slice(ring, code, start)
