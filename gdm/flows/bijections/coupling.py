"""Coupling layers: one part of an example is transformed given the other, which stays as it is.

NICE (Dinh et al., arXiv:1410.8516) with `transforms.Additive`, RealNVP (arXiv:1605.08803, section 3.2) with
`transforms.Affine`, neural spline flows (Durkan et al., arXiv:1906.04032) with rational-quadratic splines.

How an example is parted is a `Partition`. Where the two parts are arrays of their own, nothing is computed only to be
masked away; only RealNVP's checkerboard at full resolution works on the whole image under a mask.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gdm.errors import SpecError
from gdm.flows.bijections.bijection import Bijection, Transformed
from gdm.flows.bijections.elementwise import total
from gdm.flows.bijections.reshaping import by_number
from gdm.flows.bijections.transforms import Elementwise, ElementwiseTransform


@runtime_checkable
class Partition(Protocol):
  """The part of an example that a coupling's network reads, and the part that moves."""

  def moved(self, event: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of what moves; a SpecError where there is too little to couple."""
    ...

  def split(self, x: Float[Array, "batch *event"]) -> tuple[Float[Array, "batch *seen"], Float[Array, "batch *moved"]]:
    """Return the part that is read and the part that moves."""
    ...

  def merge(self, x: Float[Array, "batch *event"], moved: Float[Array, "batch *moved"]) -> Float[Array, "batch *event"]:
    """x with `moved` in its place."""
    ...

  def log_det(self, each: Float[Array, "batch *moved"]) -> Float[Array, " batch"]:
    """Return the sum over those entries of `moved` that do move."""
    ...


def require_two(event: tuple[int, ...]) -> None:
  """A SpecError unless the last axis has an entry to see and one to move."""
  if not event or event[-1] < 2:
    raise SpecError(f"a coupling needs at least 2 entries on the last axis, one to see and one to move, but the event "
                    f"is {event}; an elementwise or autoregressive bijection takes one.")


@dataclasses.dataclass(frozen=True)
class Halves:
  """The first half of the last axis is seen and the second moves; of images, that is a mask of channels.

  An odd size leaves the middle entry to the part that moves, so that two couplings, one of them flipped, move all.

  Attributes:
    flip: the other way round.

  Example:
    partition, x = Halves(), jax.random.normal(key, (16, 4))
    seen, moved = partition.split(x)
    y = partition.merge(x, moved + seen)
  """

  flip: bool = False

  def first(self, event: tuple[int, ...]) -> int:
    """Return how many entries of the last axis are in its first part."""
    require_two(event)
    return -(-event[-1] // 2) if self.flip else event[-1] // 2

  def moved(self, event):
    first = self.first(event)
    return *event[:-1], first if self.flip else event[-1] - first

  def split(self, x):
    first = self.first(x.shape[1:])
    parts = x[..., :first], x[..., first:]
    return (parts[1], parts[0]) if self.flip else parts

  def merge(self, x, moved):
    first = self.first(x.shape[1:])
    parts = [moved, x[..., first:]] if self.flip else [x[..., :first], moved]
    return jnp.concatenate(parts, axis=-1)

  def log_det(self, each):
    return total(each)


@dataclasses.dataclass(frozen=True)
class Alternate:
  """The even entries of the last axis are seen and the odd ones move.

  Attributes:
    flip: the other way round.

  Example:
    partition, x = Alternate(flip=True), jax.random.normal(key, (16, 4))
    seen, moved = partition.split(x)
    y = partition.merge(x, moved + seen)
  """

  flip: bool = False

  def moved(self, event):
    require_two(event)
    return *event[:-1], (event[-1] + self.flip) // 2

  def split(self, x):
    require_two(x.shape[1:])
    even, odd = x[..., ::2], x[..., 1::2]
    return (odd, even) if self.flip else (even, odd)

  def merge(self, x, moved):
    parts = [moved, x[..., 1::2]] if self.flip else [x[..., ::2], moved]
    size = x.shape[-1]
    # An odd size has one even entry more: a last one that is cut off again pairs them.
    parts[1] = jnp.pad(parts[1], [(0, 0)] * (x.ndim - 1) + [(0, size % 2)])
    return jnp.stack(parts, axis=-1).reshape(*x.shape[:-1], size + size % 2)[..., :size]

  def log_det(self, each):
    return total(each)


@dataclasses.dataclass(frozen=True)
class Checkerboard:
  """The pixels of one colour of a checkerboard are seen, zeros in place of the others, which move.

  RealNVP, arXiv:1605.08803, section 3.4: the network works at the image's full resolution, whatever its size; of its
  outputs half are not used.

  Attributes:
    flip: the other colour.

  Example:
    partition, x = Checkerboard(), jax.random.normal(key, (16, 4, 4, 1))
    seen, moved = partition.split(x)
    y = partition.merge(x, moved + 1.0)
  """

  flip: bool = False

  def mask(self, height: int, width: int) -> Bool[np.ndarray, "height width 1"]:
    """Return which pixels move."""
    return ((np.add.outer(np.arange(height), np.arange(width)) % 2 == 1) != self.flip)[..., None]

  def moved(self, event):
    if len(event) != 3 or event[0] * event[1] < 2:
      raise SpecError(f"a checkerboard coupling takes images (height, width, channels) of at least 2 pixels, but the "
                      f"event is {event}.")
    return event

  def split(self, x):
    height, width, _ = self.moved(x.shape[1:])
    return jnp.where(self.mask(height, width), 0.0, x), x

  def merge(self, x, moved):
    return jnp.where(self.mask(*x.shape[1:3]), moved, x)

  def log_det(self, each):
    return total(jnp.where(self.mask(*each.shape[1:3]), each, 0.0))


class Coupling(Bijection):
  """Part of an example is transformed, number by number, with parameters that a network makes of the rest.

  Attributes:
    partition: what is seen and what moves.
    transform: of what moves.
    conditioner: a module of (what is seen, context) whose last axis has `num_outputs` entries, number by number.

  Example:
    coupling, x = Coupling(Halves(), Affine(), MLP(outputs=4, num_parameters=2)), jax.random.normal(key, (16, 4))
    variables = coupling.init(key, x)
    y, log_det = coupling.apply(variables, x)
    x = coupling.apply(variables, y, method="inverse").value
  """

  partition: Partition
  transform: ElementwiseTransform
  conditioner: nn.Module

  def parameters(self, seen: Float[Array, "batch *seen"], moved: Float[Array, "batch *moved"],
                 context: Float[Array, "batch width"] | None) -> Float[Array, "batch *moved num"]:
    """Return the transform's parameters for what moves."""
    return by_number(self.conditioner(seen, context), moved.shape, self.transform.num_parameters)

  def forward(self, x, context=None):
    seen, moved = self.partition.split(x)
    return self.finish(x, self.transform.forward(moved, self.parameters(seen, moved, context)))

  def inverse(self, y, context=None):
    seen, moved = self.partition.split(y)
    return self.finish(y, self.transform.inverse(moved, self.parameters(seen, moved, context)))

  def finish(self, x: Float[Array, "batch *event"], made: Elementwise) -> Transformed:
    """Return the example whose moved part has been `made`."""
    return Transformed(self.partition.merge(x, made.value), self.partition.log_det(made.log_det))


def num_outputs(partition: Partition, transform: ElementwiseTransform, event: tuple[int, ...]) -> int:
  """Return how many outputs, on its last axis, a coupling's conditioner needs for events of this shape."""
  return partition.moved(event)[-1] * transform.num_parameters
