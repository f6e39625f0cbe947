"""Bijections between shapes: squeezing images, flattening them, and letting half of the channels go early."""

import math
from collections.abc import Sequence
from typing import TypeVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm.errors import SpecError
from gdm.flows.bijections.bijection import Bijection, Chain, Transformed
from gdm.flows.bijections.elementwise import total
from gdm.flows.bijections.transforms import Affine, ElementwiseTransform

AnyArray = TypeVar("AnyArray", Array, np.ndarray)


def squeezed(event: tuple[int, ...], factor: int = 2) -> tuple[int, int, int]:
  """Return the event that an image's squeeze has; a SpecError names a size that `factor` does not divide."""
  if len(event) != 3:
    raise SpecError(f"a squeeze takes images (height, width, channels), but the event is {event}.")
  height, width, channels = event
  for name, size in (("height", height), ("width", width)):
    if size % factor:
      raise SpecError(f"a squeeze needs sizes that {factor} divides, but the {name} of the event {event} is {size}; "
                      f"pad or crop the images, or squeeze them less often.")
  return height // factor, width // factor, channels * factor * factor


def squeeze(x: AnyArray, factor: int = 2) -> AnyArray:
  """Images [batch, rows, columns, channels] with blocks of factor x factor pixels as channels; see `Squeeze`."""
  height, width, channels = squeezed(x.shape[1:], factor)
  blocks = x.reshape(-1, height, factor, width, factor, x.shape[-1])
  return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, channels)


def unsqueeze(y: Float[Array, "batch rows columns channels"],
              factor: int = 2) -> Float[Array, "batch more_rows more_columns less_channels"]:
  """Invert `squeeze`; a SpecError where the channels do not make whole blocks."""
  _, height, width, size = y.shape
  channels, rest = divmod(size, factor**2)
  if rest:
    raise SpecError(f"to undo a squeeze, {factor**2} must divide the number of channels, but it is {size}.")
  blocks = y.reshape(-1, height, width, factor, factor, channels)
  return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height * factor, width * factor, channels)


class Squeeze(Bijection):
  """Blocks of 2x2 pixels to channels: [h, w, c] -> [h / 2, w / 2, 4 c] (RealNVP, arXiv:1605.08803, section 3.6).

  The four pixels of a block follow each other in raster order, each with all its channels: the first half of the
  channels is the upper row of each block, which no checkerboard tells apart.

  Attributes:
    factor: the side of a block.

  Example:
    y, log_det = Squeeze().apply({}, jnp.ones((16, 4, 4, 1)))  # y is [16, 2, 2, 4]
    x = Squeeze().apply({}, y, method="inverse").value
  """

  factor: int = 2

  def forward(self, x, context=None):
    squeezed(x.shape[1:], self.factor)
    return Transformed(squeeze(x, self.factor), jnp.zeros(x.shape[0], x.dtype))

  def inverse(self, y, context=None):
    return Transformed(unsqueeze(y, self.factor), jnp.zeros(y.shape[0], y.dtype))


class Reshape(Bijection):
  """The same entries, in the same order, in another shape.

  Attributes:
    before: the event nearer to the data.
    after: the event nearer to the base; None for a vector.

  Example:
    layer = Reshape(before=(4, 4, 1))
    y, log_det = layer.apply({}, jnp.ones((16, 4, 4, 1)))  # y is [16, 16]
    x = layer.apply({}, y, method="inverse").value
  """

  before: tuple[int, ...]
  after: tuple[int, ...] | None = None

  def __post_init__(self) -> None:
    if self.after is not None and math.prod(self.before) != math.prod(self.after):
      raise SpecError(f"an event {self.before} cannot be reshaped to {self.after}: it has {math.prod(self.before)} "
                      f"entries and not {math.prod(self.after)}.")
    super().__post_init__()

  def forward(self, x, context=None):
    after = (math.prod(self.before),) if self.after is None else self.after
    if x.shape[1:] != self.before:
      raise SpecError(f"Reshape was made for events {self.before}, but the event is {x.shape[1:]}.")
    return Transformed(x.reshape(-1, *after), jnp.zeros(x.shape[0], x.dtype))

  def inverse(self, y, context=None):
    return Transformed(y.reshape(-1, *self.before), jnp.zeros(y.shape[0], y.dtype))


class Split(Bijection):
  """Half of the channels leave, the rest goes on; the output is one vector, those that left first.

  RealNVP (arXiv:1605.08803, section 3.6). With a conditioner, what leaves is normalized given what stays, so that a
  standard normal base makes it Glow's learned prior (arXiv:1807.03039, as in the `split2d` of its code).

  Attributes:
    event: of the input.
    inner: what the rest, of half the channels, goes through; its output is a vector, see `Reshape`.
    transform: of what leaves, given the conditioner's outputs.
    conditioner: of (what stays, context), with `transform.num_parameters` outputs for each channel that leaves; None
      where what leaves is left as it is.

  Example:
    layer = Split((4, 4, 2), inner=Reshape((4, 4, 1)))
    y, log_det = layer.apply({}, jnp.ones((16, 4, 4, 2)))  # y is [16, 32]
    x = layer.apply({}, y, method="inverse").value
  """

  event: tuple[int, ...]
  inner: Bijection
  transform: ElementwiseTransform = Affine()
  conditioner: nn.Module | None = None

  def __post_init__(self) -> None:
    if self.event[-1] % 2:
      raise SpecError(f"a split needs an even number of channels, but the event is {self.event}; squeeze it first.")
    super().__post_init__()

  @property
  def half(self) -> tuple[int, ...]:
    """The event of either half."""
    return *self.event[:-1], self.event[-1] // 2

  def parameters(self, stays: Float[Array, "batch *half"],
                 context: Float[Array, "batch width"] | None) -> Float[Array, "batch *half num"]:
    """Return the transform's parameters for what leaves."""
    assert self.conditioner is not None
    return by_number(self.conditioner(stays, context), stays.shape, self.transform.num_parameters)

  def forward(self, x, context=None):
    if x.shape[1:] != self.event:
      raise SpecError(f"Split was made for events {self.event}, but the event is {x.shape[1:]}.")
    leaves, stays = jnp.split(x, 2, axis=-1)
    rest, log_det = self.inner.forward(stays, context)
    if rest.ndim != 2:
      raise SpecError(f"what is inside of a Split must end in a vector, but it ends in an event {rest.shape[1:]}; "
                      "end it with a Reshape or another Split.")
    if self.conditioner is not None:
      leaves, each = self.transform.forward(leaves, self.parameters(stays, context))
      log_det = log_det + total(each)
    return Transformed(jnp.concatenate([leaves.reshape(x.shape[0], -1), rest], axis=-1), log_det)

  def inverse(self, y, context=None):
    leaves, rest = jnp.split(y, 2, axis=-1)
    leaves = leaves.reshape(-1, *self.half)
    stays, log_det = self.inner.inverse(rest, context)
    if self.conditioner is not None:
      leaves, each = self.transform.inverse(leaves, self.parameters(stays, context))
      log_det = log_det + total(each)
    return Transformed(jnp.concatenate([leaves, stays], axis=-1), log_det)


def by_number(outputs: Float[Array, "*lead outputs"], shape: tuple[int, ...], num: int) -> Float[Array, "*shape num"]:
  """Return a conditioner's outputs as `num` parameters of each number of an array of this shape, number by number."""
  if outputs.shape != (*shape[:-1], shape[-1] * num):
    raise SpecError(f"a conditioner makes {outputs.shape[1:]} for each example, but events {tuple(shape[1:])} with "
                    f"{num} parameters a number need {shape[-1] * num} on its last axis.")
  return outputs.reshape(*shape, num)


def multi_scale(scales: Sequence[Bijection], events: Sequence[tuple[int, ...]],
                conditioners: Sequence[nn.Module | None] | None = None) -> Bijection:
  """Scales one inside the other: half of what each but the last makes leaves at once. The output is one vector.

  Args:
    scales: bijections of images; the first is nearest to the data.
    events: the shape that each of them makes; the next one takes half of its channels.
    conditioners: of what leaves after each scale but the last; see `Split`.
  """
  conditioners = [None] * (len(scales) - 1) if conditioners is None else conditioners
  whole: Bijection = Chain([scales[-1], Reshape(tuple(events[-1]))])
  for scale, event, conditioner in zip(scales[-2::-1], events[-2::-1], conditioners[::-1], strict=True):
    whole = Chain([scale, Split(tuple(event), whole, conditioner=conditioner)])
  return whole
