"""Steps of PixelCNN++'s network row by row and pixel by pixel; a step's cost does not depend on the image's size.

The down stream computes a whole row when the row begins, the right stream one pixel at a time. A coarser resolution
runs only when one of its rows or pixels begins; its contribution to the 2 x 2 finer pixels is cached, as in
Ramachandran et al., arXiv:1704.06001. The functions are pure, and branch between calls of the network's scales.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from gdm.autoregressive.images.masked_convolution import put
from gdm.autoregressive.images.pixelcnn_pp_blocks import Rings, Rows

Run = Callable[..., Any]  # run(i, name, *arguments): the method `name` of the network's scale i, with parameters


class ScaleRows(NamedTuple):
  """The state of one resolution's down stream, from row to row.

  Attributes:
    layers: for each layer, the inputs of its convolutions in the rows just above the current one.
    from_down: for each layer, its contribution to the right stream in the current row.
    link: the inputs, in the rows just above, of the convolution to the next coarser resolution; and the two rows of
      this resolution that the coarser one returned last. None at the coarsest resolution.
  """

  layers: tuple[Rows, ...]
  from_down: tuple[Float[Array, "columns batch width"], ...]
  link: tuple[Float[Array, "batch _ columns width"], Float[Array, "batch 2 columns width"]] | None


class ScaleRings(NamedTuple):
  """The state of one resolution's right stream, from pixel to pixel; attributes as in `ScaleRows`."""

  layers: tuple[Rings, ...]
  link: tuple[Float[Array, "_ batch width"], Float[Array, "2 columns batch width"]] | None


class PixelCNNPPCache(NamedTuple):
  """The state of `PixelCNNPP.advance`.

  Attributes:
    codes: ring of the image's codes.
    outputs: outputs for the current pixel.
    rows: state of each resolution's down stream, the finest first.
    rings: state of each resolution's right stream, the finest first.
  """

  codes: Float[Array, "slots batch inputs"]
  outputs: Float[Array, "batch outputs"]
  rows: tuple[ScaleRows, ...]
  rings: tuple[ScaleRings, ...]


def next_row(run: Run, i: int, down: Float[Array, "batch columns width"], row: Int[Array, ""],
             scales: tuple[ScaleRows, ...]) -> tuple[Float[Array, "batch columns width"], tuple[ScaleRows, ...]]:
  """Compute the down stream in the next row, `row`, at resolution i and at all coarser ones.

  Args:
    run: runs a scale of the network.
    i: the resolution, 0 for the finest.
    down: the stream in this row.
    row: index of the row at this resolution.
    scales: state of resolution i and of the coarser ones.

  Returns:
    The stream and the states after the row.
  """
  (finest, *_), coarser = scales, scales[1:]
  num, link = len(finest.layers) // 2, finest.link  # the decoder may have one layer more than the encoder
  # Encode.
  states, encoder, from_encoder = run(i, "encode_row", down, finest.layers[:num])
  # In every second row, compute the coarser resolution, which returns two rows; cache them for the row after.
  if link is None:
    down = states.pop()
  else:
    small, inputs = run(i, "shrink_row", states[-1], link[0])
    cached = link[1]

    def begin() -> tuple[Array, tuple[ScaleRows, ...]]:
      x, new = next_row(run, i + 1, small, row // 2, coarser)
      return run(i, "grow_row", x).astype(cached.dtype), new

    grown, coarser = jax.lax.cond(row % 2 == 0, begin, lambda: (cached, scales[1:]))
    down, link = jax.lax.dynamic_index_in_dim(grown, row % 2, axis=1, keepdims=False), (inputs, grown)
  # Decode, with short cuts from the last state of the encoder to the first.
  down, decoder, from_decoder = run(i, "decode_row", down, states, finest.layers[num:])
  return down, (ScaleRows((*encoder, *decoder), (*from_encoder, *from_decoder), link), *coarser)


def next_pixel(run: Run, i: int, right: Float[Array, "batch width"], pixel: Int[Array, ""], columns: int,
               rows: tuple[ScaleRows, ...],
               scales: tuple[ScaleRings, ...]) -> tuple[Float[Array, "batch width"], tuple[ScaleRings, ...]]:
  """Compute the right stream at the next pixel, at resolution i and at all coarser ones.

  Args:
    run: runs a scale of the network.
    i: the resolution, 0 for the finest.
    right: the stream at this pixel.
    pixel: index of the pixel at this resolution, in raster order.
    columns: of the image at this resolution.
    rows: state of the down streams of resolution i and of the coarser ones, in the pixel's row.
    scales: state of their right streams.

  Returns:
    The stream and the states after the pixel.
  """
  (finest, *_), coarser = scales, scales[1:]
  num, link = len(finest.layers) // 2, finest.link
  row, column = pixel // columns, pixel % columns
  from_down = [jax.lax.dynamic_index_in_dim(each, column, keepdims=False) for each in rows[0].from_down]
  # Encode.
  states, encoder = run(i, "encode_pixel", right, from_down[:num], finest.layers[:num], pixel, columns)
  # At the first pixel of four, compute the coarser resolution, which returns all four; cache them for the others.
  if link is None:
    right = states.pop()
  else:
    ring, cached = put(link[0], states[-1], pixel), link[1]

    def begin() -> tuple[Array, tuple[ScaleRings, ...]]:
      x = run(i, "shrink_pixel", ring, pixel, columns)
      x, new = next_pixel(run, i + 1, x, row // 2 * (columns // 2) + column // 2, columns // 2, rows[1:], coarser)
      patch = run(i, "grow_pixel", x).astype(cached.dtype)
      return jax.lax.dynamic_update_slice_in_dim(cached, patch, column, axis=1), new

    grown, coarser = jax.lax.cond((row % 2 == 0) & (column % 2 == 0), begin, lambda: (cached, scales[1:]))
    right, link = grown[row % 2, column], (ring, grown)
  # Decode, with short cuts from the last state of the encoder to the first.
  right, decoder = run(i, "decode_pixel", right, states, from_down[num:], finest.layers[num:], pixel, columns)
  return right, (ScaleRings((*encoder, *decoder), link), *coarser)
