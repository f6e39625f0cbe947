"""A triangular matrix stored as the vector of its entries, unpacked without a gather."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped


def packed_size(size: int) -> int:
  """Return entries of an upper triangle of `size` rows, its diagonal included: size (size + 1) / 2."""
  return size * (size + 1) // 2


def unpack_upper(packed: Float[Array, " packed"], size: int) -> Float[Array, "size size"]:
  """Return the upper triangular matrix, diagonal included, of which `packed` holds each entry once.

  The vector followed by its reversed end fills the square so that every entry lands exactly once on or above the
  diagonal; a reverse and a mask are far cheaper on every backend than a gather and its scattered gradient.
  """
  square = jnp.concatenate([packed, packed[size:][::-1]]).reshape(size, size)
  return jnp.triu(square)


def pack_upper(matrix: Shaped[np.ndarray, "size size"]) -> Shaped[np.ndarray, " packed"]:
  """Return the vector that `unpack_upper` turns into the upper triangle of `matrix`."""
  size = len(matrix)
  entries = np.arange(packed_size(size))
  square = np.concatenate([entries, entries[size:][::-1]]).reshape(size, size)
  upper = np.triu_indices(size)
  packed = np.empty(entries.shape, matrix.dtype)
  packed[square[upper]] = matrix[upper]
  return packed
