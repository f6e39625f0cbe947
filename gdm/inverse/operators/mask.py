"""Masks: some entries of an example are measured, the others are not."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gdm.errors import ConfigError, SpecError
from gdm.inverse.operators.operator import Leaf, registered, require_images


@registered("index")
@dataclasses.dataclass(frozen=True)
class Mask:
  """The measured entries of an example, in raster order.

  Attributes:
    index: places of the measured entries in the flattened example.
    event: shape of an example.
  """

  index: Leaf  # Int[Array, " known"]
  event: tuple[int, ...]

  @property
  def measured(self) -> tuple[int]:
    return (self.index.shape[0],)

  @property
  def gain(self) -> float:
    return 1.0

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch known"]:
    return x.reshape(len(x), -1)[:, self.index]

  def adjoint(self, y: Float[Array, "batch known"]) -> Float[Array, "batch *event"]:
    flat = jnp.zeros((len(y), math.prod(self.event)), y.dtype).at[:, self.index].set(y)
    return flat.reshape(len(y), *self.event)


def mask(known: Bool[Array | np.ndarray, "*event"]) -> Mask:
  """Return the measurement of the entries that are `known`.

  Example:
    operator = mask(np.arange(64).reshape(8, 8, 1) < 32)  # the upper half of an image
  """
  known = np.asarray(known)
  return Mask(jnp.asarray(np.flatnonzero(known), jnp.int32), known.shape)


def region(event: tuple[int, ...], name: str) -> Mask:
  """Return a mask that hides the left, right, top, bottom or box (the middle half) of an image.

  Raise ConfigError for another name, SpecError where the event is no image.

  Example:
    y = region((8, 8, 1), "bottom").forward(jnp.ones((16, 8, 8, 1)))  # [16, 32], of the upper half
  """
  if len(event) != 3:
    raise SpecError(f"mask:{name} hides a region of images (height, width, channels), but the event is {event}; choose "
                    "a share, as mask:0.5.")
  height, width, _ = event
  down, across = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
  box = ((down >= height // 4) & (down < height - height // 4) & (across >= width // 4)
         & (across < width - width // 4))
  hidden = {"left": across < width // 2, "right": across >= width - width // 2, "top": down < height // 2,
            "bottom": down >= height - height // 2, "box": box}
  if name not in hidden:
    raise ConfigError(f"mask is {name!r}; it must be a share of known entries in [0, 1], or one of "
                      f"{', '.join(sorted(hidden))}, which is hidden.")
  return mask(np.broadcast_to(~hidden[name], event))


def lowest_rows(event: tuple[int, ...], num: int) -> Mask:
  """Return a mask that shows the lowest rows of an image: of a spectrogram the bands that sound of a lower rate has.

  Raise SpecError where the event is no image, ConfigError unless it has more rows than that.

  Example:
    y = lowest_rows((8, 8, 1), 3).forward(jnp.ones((16, 8, 8, 1)))  # [16, 24]
  """
  require_images(event, "lowest")
  if not 1 <= num < event[0]:
    raise ConfigError(f"rows of lowest is {num}; it must be from 1 to {event[0] - 1}, of {event[0]} that there are.")
  return mask(np.broadcast_to(np.arange(event[0])[:, None, None] >= event[0] - num, event))


def random_mask(event: tuple[int, ...], share: float, seed: int = 0) -> Mask:
  """Return a mask that shows a share of the entries, of images all channels of a pixel, at random places.

  Raise ConfigError where the share is not in [0, 1].

  Example:
    y = random_mask((8, 8, 1), share=0.25).forward(jnp.ones((16, 8, 8, 1)))  # [16, 16]
  """
  if not 0.0 <= share <= 1.0:
    raise ConfigError(f"share of known entries is {share}; it must be in [0, 1].")
  places = event[:-1] if len(event) == 3 else event
  num = math.prod(places)
  shown = np.random.default_rng(seed).permutation(num) < round(share * num)
  shown = shown.reshape(*places, 1) if len(event) == 3 else shown.reshape(places)
  return mask(np.broadcast_to(shown, event))
