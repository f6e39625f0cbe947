"""PixelCNN++'s network pixel by pixel, each at the same cost however large the image.

The down stream takes a whole row when it begins, the right stream a pixel. A coarser resolution moves only when one of
its rows or pixels begins; what it then says to the 2 x 2 finer pixels is kept, as in Ramachandran et al.,
arXiv:1704.06001.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdm.networks.masked_convolution import above_and_left, empty_ring, put, row_neighbours, rows_above
from gdm.networks.pixel_codes import num_codes, put_value
from gdm.networks.pixelcnn_pp import PixelCNNPPNetwork
from gdm.networks.pixelcnn_pp_blocks import Rings, Rows, before, of_row

Run = Callable[..., Any]  # a function of the network and arguments, run with parameters


class ScaleRows(NamedTuple):
  """What the down stream of one resolution keeps from row to row.

  Attributes:
    layers: inputs of each layer's convolutions in the last rows above the present one.
    told: what each layer says to the right stream in the present row.
    link: the same inputs of the convolution to the next coarser resolution, and what that one says to two rows of this
      one; None at the coarsest.
  """

  layers: tuple[Rows, ...]
  told: tuple[Float[Array, "columns batch width"], ...]
  link: tuple[Float[Array, "batch _ columns width"], Float[Array, "batch 2 columns width"]] | None


class ScaleRings(NamedTuple):
  """What the right stream of one resolution keeps from pixel to pixel; attributes as in `ScaleRows`."""

  layers: tuple[Rings, ...]
  link: tuple[Float[Array, "_ batch width"], Float[Array, "2 columns batch width"]] | None


class Cache(NamedTuple):
  """What a step needs of the values before it.

  Attributes:
    codes: ring of the image's codes.
    values: of the present pixel; those not known yet may be anything.
    outputs: of the present pixel.
    rows: of each resolution's down stream, from the finest to the coarsest.
    rings: of each resolution's right stream.
  """

  codes: Float[Array, "slots batch inputs"]
  values: Int[Array, "batch channels"]
  outputs: Float[Array, "batch outputs"]
  rows: tuple[ScaleRows, ...]
  rings: tuple[ScaleRings, ...]


def init_cache(network: PixelCNNPPNetwork, num: int, dtype: jnp.dtype) -> Cache:
  """The cache before the first value of `num` images."""
  _, columns, channels = network.event
  inputs, size, width = channels * num_codes(network.levels), network.kernel_size, network.width
  rows, rings = [], []
  for i in range(network.num_scales):
    own, is_coarsest = columns >> i, i == network.num_scales - 1
    num_layers = 2 * network.num_blocks + (not is_coarsest)
    seen = jnp.zeros((num, size // 2, own, 2 * width), dtype)
    ring = empty_ring(before(size), own, num, 2 * width, dtype)
    told = jnp.zeros((own, num, width), dtype)
    rows.append(ScaleRows(((seen, seen),) * num_layers, (told,) * num_layers, None if is_coarsest else
                          (seen[..., :width], jnp.zeros((num, 2, own, width), dtype))))
    rings.append(ScaleRings(((ring, ring),) * num_layers, None if is_coarsest else
                            (ring[..., :width], jnp.zeros((2, own, num, width), dtype))))
  codes = empty_ring(above_and_left(network.first_size), columns, num, inputs, dtype)
  return Cache(codes, jnp.zeros((num, channels), jnp.int32), jnp.zeros((num, network.outputs), dtype), tuple(rows),
               tuple(rings))


def step(network: PixelCNNPPNetwork, variables: Any, cache: Cache, previous: Int[Array, " batch"],
         index: Int[Array, ""]) -> Cache:
  """The cache that knows the value before `index`, and the outputs of its pixel."""
  _, columns, channels = network.event
  pixel = index // channels

  def run(function: Callable[..., Any], *args: Any) -> Any:
    return network.apply(variables, *args, method=function)

  codes = put_value(cache.codes, previous, index - 1, channels, network.levels)
  values = jax.lax.dynamic_update_index_in_dim(cache.values, previous.astype(jnp.int32), (index - 1) % channels, axis=1)

  def begin_row() -> tuple[ScaleRows, ...]:
    row = pixel // columns
    return _row(run, 0, run(_first_of_row, codes, row), row, cache.rows)[1]

  rows = jax.lax.cond(index % (columns * channels) == 0, begin_row, lambda: cache.rows)

  def begin_pixel() -> tuple[Float[Array, "batch outputs"], tuple[ScaleRings, ...]]:
    right, rings = _pixel(run, 0, run(_first_of_pixel, codes, pixel), pixel, columns, rows, cache.rings)
    return run(_outputs, right).astype(cache.outputs.dtype), rings

  outputs, rings = jax.lax.cond(index % channels == 0, begin_pixel, lambda: (cache.outputs, cache.rings))
  return Cache(codes, values, outputs, rows, rings)


# The two streams from resolution i on to the coarsest and back. `rows` and `rings` begin with those of i.


def _row(run: Run, i: int, down: Float[Array, "batch columns width"], row: Int[Array, ""],
         rows: tuple[ScaleRows, ...]) -> tuple[Float[Array, "batch columns width"], tuple[ScaleRows, ...]]:
  own, coarser = rows[0], rows[1:]
  num, link = len(own.layers) // 2, own.link  # the decoder may have one layer more than the encoder
  states, encoder, told = run(_layers_of_row, i, "encoder", down, [None] * num, own.layers[:num])
  if link is None:
    down = states.pop()
  else:
    small, seen = run(_shrink_row, i, states[-1], link[0])
    kept = link[1]

    def begin() -> tuple[Array, tuple[ScaleRows, ...]]:
      x, new = _row(run, i + 1, small, row // 2, coarser)
      return run(_grow_row, i, x).astype(kept.dtype), new

    grown, coarser = jax.lax.cond(row % 2 == 0, begin, lambda: (kept, rows[1:]))
    down, link = jax.lax.dynamic_index_in_dim(grown, row % 2, axis=1, keepdims=False), (seen, grown)
  states, decoder, more = run(_layers_of_row, i, "decoder", down, states[::-1], own.layers[num:])
  return states[-1], (ScaleRows((*encoder, *decoder), (*told, *more), link), *coarser)


def _pixel(run: Run, i: int, right: Float[Array, "batch width"], pixel: Int[Array, ""], columns: int,
           rows: tuple[ScaleRows, ...],
           rings: tuple[ScaleRings, ...]) -> tuple[Float[Array, "batch width"], tuple[ScaleRings, ...]]:
  own, coarser = rings[0], rings[1:]
  num, link = len(own.layers) // 2, own.link
  row, column = pixel // columns, pixel % columns
  told = [jax.lax.dynamic_index_in_dim(each, column, keepdims=False) for each in rows[0].told]
  layers = functools.partial(run, _layers_of_pixel, i, pixel, columns)
  states, encoder = layers("encoder", right, [None] * num, told[:num], own.layers[:num])
  if link is None:
    right = states.pop()
  else:
    ring, kept = put(link[0], states[-1], pixel), link[1]

    def begin() -> tuple[Array, tuple[ScaleRings, ...]]:
      x = run(_shrink_pixel, i, ring, pixel, columns)
      x, new = _pixel(run, i + 1, x, row // 2 * (columns // 2) + column // 2, columns // 2, rows[1:], coarser)
      patch = run(_grow_pixel, i, x).astype(kept.dtype)
      return jax.lax.dynamic_update_slice_in_dim(kept, patch, column, axis=1), new

    grown, coarser = jax.lax.cond((row % 2 == 0) & (column % 2 == 0), begin, lambda: (kept, rings[1:]))
    right, link = grown[row % 2, column], (ring, grown)
  states, decoder = layers("decoder", right, states[::-1], told[num:], own.layers[num:])
  return states[-1], (ScaleRings((*encoder, *decoder), link), *coarser)


# What runs within the network.


def _first_of_row(network: PixelCNNPPNetwork, codes: Float[Array, "slots batch inputs"],
                  row: Int[Array, ""]) -> Float[Array, "batch columns width"]:
  seen = rows_above(codes, row, network.event[1], network.first_size // 2)
  down = network.first_down.of_taps(row_neighbours(seen, network.first_down.taps))
  return down + network.place()[row, :, :network.width] if network.located else down


def _first_of_pixel(network: PixelCNNPPNetwork, codes: Float[Array, "slots batch inputs"],
                    pixel: Int[Array, ""]) -> Float[Array, "batch width"]:
  right = network.first_right.step(codes, pixel, network.event[1])
  return right + network.place.at(pixel)[network.width:] if network.located else right


def _layers_of_row(network: PixelCNNPPNetwork, i: int, part: str, down: Array, shorts: Sequence[Array | None],
                   old: Sequence[Rows]) -> tuple[list[Array], list[Rows], list[Array]]:
  states, new, told = [down], [], []
  for layer, short, seen in zip(getattr(network.scales[i], part), shorts, old, strict=True):
    down, seen, said = layer.row(states[-1], short, seen)
    states.append(down)
    new.append(seen)
    told.append(said)
  return states, new, told


def _layers_of_pixel(network: PixelCNNPPNetwork, i: int, pixel: Array, columns: int, part: str, right: Array,
                     shorts: Sequence[Array | None], told: Sequence[Array],
                     old: Sequence[Rings]) -> tuple[list[Array], list[Rings]]:
  states, new = [right], []
  for layer, short, said, rings in zip(getattr(network.scales[i], part), shorts, told, old, strict=True):
    right, rings = layer.step(states[-1], short, said, rings, pixel, columns)
    states.append(right)
    new.append(rings)
  return states, new


def _shrink_row(network: PixelCNNPPNetwork, i: int, down: Array, seen: Array) -> tuple[Array, Array]:
  y, seen = of_row(network.scales[i].shrink_down, down, seen)
  return y[:, ::2], seen


def _grow_row(network: PixelCNNPPNetwork, i: int, down: Array) -> Float[Array, "batch 2 columns width"]:
  batch, columns, width = down.shape
  y = network.scales[i].grow_down(down).reshape(batch, columns, 2, 2, width)
  return jnp.swapaxes(y, 1, 2).reshape(batch, 2, 2 * columns, width)


def _shrink_pixel(network: PixelCNNPPNetwork, i: int, ring: Array, pixel: Array, columns: int) -> Array:
  return network.scales[i].shrink_right.step(ring, pixel, columns)


def _grow_pixel(network: PixelCNNPPNetwork, i: int, right: Array) -> Float[Array, "2 2 batch width"]:
  y = network.scales[i].grow_right(right).reshape(len(right), 2, 2, network.width)
  return jnp.moveaxis(y, 0, 2)


def _outputs(network: PixelCNNPPNetwork, right: Array) -> Float[Array, "batch outputs"]:
  return network.readout(jax.nn.elu(right))
