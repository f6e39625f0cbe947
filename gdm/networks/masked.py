"""Masked dense layers: networks whose outputs see only the inputs they may (MADE, arXiv:1502.03509, section 4).

Every unit carries an integer. An input's *degree* is its position in the ordering; a unit's *limit* is the last
position it may depend on; a hidden unit's degree is its limit, and the output at position p has limit p - 1. One rule
then makes every mask: a unit is connected to those below it whose degree is at most its limit (equations 12 and 13).

When degrees and limits are sorted the mask is a staircase, and a layer is computed in a few column tiles that leave out
the rows none of their units may see: with four tiles 5/8 of the multiplications, weights and optimizer state of the
dense layer. Measured on two CPU cores at 784-4000-784, batch 100, a training step with Adam takes 0.77 of the time of
the plain dense network, against 1.2 to 1.6 with full-size masks.
"""

import itertools
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gdm.networks.activations import initializer

MAX_TILES = 4
MIN_TILE = 128  # narrower tiles cost more in dispatch than they save in arithmetic


class Tile(NamedTuple):
  """Columns [start, stop) of a kernel, which read the first `rows` inputs and no others."""

  rows: int
  start: int
  stop: int


def whole(num_in: int, num_out: int) -> tuple[Tile, ...]:
  """Return the one tile of a kernel whose mask changes from step to step."""
  return (Tile(num_in, 0, num_out),)


def staircase(degrees: np.ndarray, limits: np.ndarray) -> tuple[Tile, ...]:
  """Tiles that cover all connections between sorted degrees [in] and sorted limits [out]."""
  num_tiles = max(1, min(MAX_TILES, len(degrees) // MIN_TILE, len(limits) // MIN_TILE))
  edges = np.linspace(0, len(limits), num_tiles + 1).astype(int)
  visible = np.searchsorted(degrees, limits, side="right")  # inputs that each unit may see
  return tuple(Tile(max(int(visible[stop - 1]), 1), int(start), int(stop))
               for start, stop in itertools.pairwise(edges))


def connections(degrees: Int[Array | np.ndarray, " rows"],
                limits: Int[Array | np.ndarray, " columns"]) -> Bool[Array | np.ndarray, "rows columns"]:
  """Return the mask of a kernel: which inputs each unit may see."""
  return degrees[:, None] <= limits[None, :]


def even_degrees(num_units: int, num_degrees: int) -> np.ndarray:
  """Degrees in [0, num_degrees), sorted, each as often as any other (give or take one)."""
  return np.arange(num_units) * max(num_degrees, 1) // max(num_units, 1)


def tile_masks(tiles: tuple[Tile, ...], degrees: Int[np.ndarray, " in"],
               limits: Int[np.ndarray, " out"]) -> dict[str, Bool[np.ndarray, "rows columns"]]:
  """Return for each parameter of a MaskedDense the entries that the mask leaves."""
  return {f"kernel_{i}": np.asarray(connections(degrees[:tile.rows], limits[tile.start:tile.stop]))
          for i, tile in enumerate(tiles)}


def dense_kernel(params: dict[str, Array], tiles: tuple[Tile, ...]) -> Float[Array, "rows columns"]:
  """Return the kernel of a MaskedDense as one matrix, zero outside its tiles."""
  rows = max(tile.rows for tile in tiles)
  columns = [jnp.pad(params[f"kernel_{i}"], ((0, rows - tile.rows), (0, 0))) for i, tile in enumerate(tiles)]
  return jnp.concatenate(columns, axis=1)


class MaskedDense(nn.Module):
  """A dense layer without bias under a mask, computed tile by tile.

  Attributes:
    num_in: number of inputs; the last ones, which no unit may see, are in no tile.
    tiles: see `staircase` and `whole`.
    weight_init: name of an initializer, applied to the dense shape so that tiling does not change the distribution.
  """

  num_in: int
  tiles: tuple[Tile, ...]
  weight_init: str = "glorot_uniform"

  @nn.compact
  def __call__(self, x: Float[Array, "batch in"], degrees: Int[Array, " in"],
               limits: Int[Array, " out"]) -> Float[Array, "batch out"]:
    shape = (self.num_in, self.tiles[-1].stop)

    def init(key, tile):
      return initializer(self.weight_init)(key, shape)[:tile.rows, tile.start:tile.stop]

    outputs = []
    for i, tile in enumerate(self.tiles):
      kernel = self.param(f"kernel_{i}", init, tile)
      mask = connections(degrees[:tile.rows], limits[tile.start:tile.stop])
      outputs.append(x[:, :tile.rows] @ jnp.where(mask, kernel, 0.0))
    return outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=-1)
